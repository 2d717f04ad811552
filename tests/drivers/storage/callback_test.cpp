// Commands around a pool of image files, run by a real shell.
#include "tests/drivers/storage/fake_lvm.hpp"
#include "tests/drivers/storage/pool_fixture.hpp"

#include <gmock/gmock.h>

namespace qubes::tests {

namespace {

using namespace drivers::storage;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct callback_driver : testing::Test {
  void SetUp() override { std::filesystem::create_directory(top / "images"); }

  /// The pool whose configuration has these keys besides its driver.
  model::outcome<std::shared_ptr<drivers::storage::pool>> open(const std::string& keys) {
    auto path = top.write(
        "callback.json",
        fmt::format(R"({{"here":{{"bdriver":"file-reflink","bdriver_args":{{"dir_path":"{}",)"
                    R"("setup_check":false}}{}}}}})",
                    top / "images", keys));
    return open_configured("here", path);
  }

  static model::outcome<std::shared_ptr<drivers::storage::pool>>
  open_configured(const std::string& id, const std::string& path) {
    return open_pool({.name = "back", .driver = "callback", .attributes = {{"conf_id", id}}},
                     {.commands = drivers::make_command_runner(), .callbacks = path});
  }

  std::vector<std::string> told() const {
    auto result = std::vector<std::string>{};
    auto text = std::istringstream{top.read("told")};
    for (auto line = std::string{}; std::getline(text, line);)
      result.push_back(line);
    return result;
  }

  temp_directory top;
  volume mine = kept_volume("appvms/work/private");
};

} // namespace

TEST_F(callback_driver, tells_one_command_of_everything) {
  auto tell = top.program("tell", R"(printf '%s %s %s %s %s %s\n' "$1" "$2" "$3" "$4" "$6" "$7" >>)"
                                      + (top / "told"));
  auto pool = *open(fmt::format(R"(,"cmd":"{}")", tell));
  ASSERT_EQ(why(pool->set_up()), "");
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->start(mine)), "");
  ASSERT_EQ(why(pool->stop(mine)), "");
  ASSERT_EQ(why(pool->resize(mine, 2 * mib)), "");
  ASSERT_EQ(why(pool->clear(mine, mib)), "");
  auto path = *pool->begin_export(mine);
  pool->end_export(mine, path);
  ASSERT_EQ(why(pool->import_volume(mine, *pool, mine)), "");
  ASSERT_EQ(why(pool->remove(mine)), "");
  auto events = std::vector<std::string>{};
  for (auto& line : told()) {
    EXPECT_THAT(line, testing::StartsWith("back file-reflink "));
    events.push_back(line.substr(18, line.find(" here") - 18));
  }
  EXPECT_THAT(events,
              ElementsAre("pre_sinit", "pre_setup", "pre_volume_create", "post_volume_create",
                          "pre_volume_start", "post_volume_start", "post_volume_stop",
                          "pre_volume_resize", "pre_volume_import_data",
                          "post_volume_import_data_end", "pre_volume_export",
                          "post_volume_export_end", "pre_volume_import", "pre_volume_export",
                          "post_volume_export_end", "post_volume_import", "post_volume_remove"));
  EXPECT_EQ(told()[2], "back file-reflink pre_volume_create here private appvms/work/private");
}

TEST_F(callback_driver, prefers_the_command_of_the_event_and_gives_it_no_arguments) {
  auto log = top / "told";
  auto pool =
      *open(fmt::format(R"(,"cmd":"echo general >>{0};:","pre_volume_start":"echo own $# >>{0}",)"
                        R"("post_volume_start":"-","pre_sinit":"-")",
                        log));
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->start(mine)), "");
  EXPECT_THAT(told(), ElementsAre("general", "general", "own 0"));
}

TEST_F(callback_driver, refuses_what_a_command_refuses_and_changes_nothing) {
  auto pool = *open(R"(,"post_volume_create":"echo no room; exit 3")");
  auto done = pool->create(mine);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, model::errc::storage);
  EXPECT_THAT(done.error().text, HasSubstr("command for post_volume_create"));
  EXPECT_THAT(done.error().text, HasSubstr("status 3: no room"));
  EXPECT_FALSE(top.has("images/appvms/work/private.img"));
  pool = *open(R"(,"pre_volume_create":"false")");
  EXPECT_THAT(why(pool->create(mine)), HasSubstr("pre_volume_create"));
  EXPECT_FALSE(top.has("images/appvms/work"));
}

TEST_F(callback_driver, quotes_what_it_hands_to_the_shell) {
  auto pool = *open(fmt::format(R"(,"cmd":"printf '%s\\n' >>{} --")", top / "told"));
  mine.it.source = "a'; touch " + (top / "hacked") + "; '";
  (void)pool->create(mine);
  EXPECT_FALSE(top.has("hacked"));
  EXPECT_THAT(told(), testing::Contains(mine.it.source));
}

TEST_F(callback_driver, prepares_once_and_again_when_it_failed) {
  auto pool = *open(
      fmt::format(R"(,"pre_sinit":"echo x >>{0}; test -e {1}")", top / "told", top / "ready"));
  EXPECT_THAT(why(pool->verify(mine)), HasSubstr("pre_sinit"));
  top.write("ready", "");
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->start(mine)), "");
  EXPECT_THAT(told(), ElementsAre("x", "x"));
}

TEST_F(callback_driver, sets_the_pool_up_again_when_a_command_signals_it) {
  auto keys = std::string{R"(,"pre_volume_start":"echo so; echo SIGNAL_setup","signal_back":)"};
  auto pool = *open(keys + "false");
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->start(mine)), "");
  EXPECT_FALSE(top.has("images/vm-templates"));
  pool = *open(keys + "true");
  ASSERT_EQ(why(pool->start(mine)), "");
  EXPECT_TRUE(top.has("images/vm-templates"));
}

TEST_F(callback_driver, works_with_volumes_of_lvm) {
  auto lvm = std::make_shared<fake_lvm>();
  auto path = top.write(
      "callback.json",
      R"({"here":{"bdriver":"lvm_thin","bdriver_args":{"volume_group":"vg","thin_pool":"pool"}}})");
  auto pool =
      *open_pool({.name = "back", .driver = "callback", .attributes = {{"conf_id", "here"}}},
                 {.commands = lvm, .callbacks = path});
  mine.it.vid = "vg/vm-work-private";
  ASSERT_EQ(why(pool->set_up()), "");
  ASSERT_EQ(why(pool->create(mine)), "");
  ASSERT_EQ(why(pool->start(mine)), "");
  EXPECT_EQ(pool->device(mine), "/dev/mapper/vg-vm--work--private--snap");
  lvm->data("vg/vm-work-private-snap") = "written";
  ASSERT_EQ(why(pool->stop(mine)), "");
  EXPECT_EQ(lvm->data("vg/vm-work-private"), "written");
  ASSERT_EQ(why(pool->remove(mine)), "");
  EXPECT_THAT(lvm->names(), IsEmpty());
}

TEST_F(callback_driver, tells_what_its_configurations_work_with) {
  auto all = read_callbacks(top.write(
      "callback.json",
      R"({"a":{"bdriver":"lvm_thin","bdriver_args":{"volume_group":"vg","revisions_to_keep":3}},)"
      R"("b":{"bdriver":"callback"},"c":7,"d":{"bdriver":"file"}})"));
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all["a"].driver, "lvm_thin");
  EXPECT_EQ(all["a"].attribute("volume_group"), "vg");
  EXPECT_EQ(all["a"].attribute("revisions_to_keep"), "3");
  EXPECT_EQ(all["d"].driver, "file");
  EXPECT_THAT(read_callbacks(top.write("bad.json", "{")), IsEmpty());
  EXPECT_THAT(read_callbacks(top / "missing"), IsEmpty());
}

TEST_F(callback_driver, refuses_configurations_it_cannot_work_with) {
  auto refusal = [&](const std::string& text) {
    return why(open_configured("here", top.write("bad.json", text)));
  };
  EXPECT_THAT(refusal(""), HasSubstr("is no JSON object"));
  EXPECT_THAT(refusal("[1]"), HasSubstr("is no JSON object"));
  EXPECT_THAT(refusal("{}"), HasSubstr("has no configuration 'here'"));
  EXPECT_THAT(refusal(R"({"here":{}})"), HasSubstr("names no driver"));
  EXPECT_THAT(refusal(R"({"here":{"bdriver":"callback"}})"), HasSubstr("callback of a callback"));
  EXPECT_THAT(refusal(R"({"here":{"bdriver":"floppy"}})"), HasSubstr("floppy"));
  EXPECT_THAT(refusal(R"({"here":{"bdriver":"file","bdriver_args":1}})"), HasSubstr("no object"));
  EXPECT_THAT(refusal(R"({"here":{"bdriver":"file"}})"), HasSubstr("no absolute path"));
  EXPECT_THAT(why(open_configured("here", top / "missing")), HasSubstr("is no JSON object"));
}

} // namespace qubes::tests

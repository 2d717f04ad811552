// New domains and the end of old ones (spec/admin-api.md C5, spec/vm-classes.md §2-§6).
#include "model/base/literal.hpp"
#include "model/change/creation.hpp"
#include "model/xml/qubes_xml.hpp"
#include "tests/model/sample_system.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

using namespace qubes;
using namespace qubes::model;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::IsSupersetOf;
using tests::sample_system;

namespace {

std::vector<std::string> shown(const std::vector<event>& some) {
  auto result = std::vector<std::string>{};
  for (auto& x : some) {
    auto text = x.subject + "!" + x.name;
    for (auto& [key, value] : x.args)
      text += fmt::format(" {}={}", key, value);
    result.push_back(text);
  }
  return result;
}

class creations : public testing::Test {
protected:
  creations() { // with volatile volumes, as real ones
    for (auto& x : std::vector(at.system.domains))
      if (x->is(qubes_vm)) {
        auto copy = *x;
        auto scratch = volume{};
        scratch.name = "volatile";
        scratch.pool = "varlibqubes";
        scratch.vid = fmt::format("appvms/{}/volatile", x->name.str());
        scratch.rw = true;
        copy.volumes.insert(copy.volumes.begin() + 2, scratch);
        at.system.put(std::make_shared<domain>(std::move(copy)));
      }
  }

  outcome<creation> request(klass type, std::string_view based_on, std::string_view payload,
                            bool with_pools = false) const {
    return parse_creation(at.system, type, based_on, payload, with_pools);
  }
  plan make(klass type, std::string_view based_on, std::string_view payload,
            bool with_pools = false, std::string creator = "dom0") const {
    auto x = request(type, based_on, payload, with_pools);
    if (!x)
      ADD_FAILURE() << payload << ": " << x.error().text;
    x->creator = std::move(creator);
    return plan_creation(at.view(), *x, who);
  }
  /// The new domain; the plan must be accepted by the store.
  domain made(const plan& x) const {
    EXPECT_FALSE(x.refusal) << x.refusal->text;
    auto record = created(x);
    if (!record)
      return {};
    auto next = apply(at.system, at.machine, x.what);
    EXPECT_TRUE(next) << next.error().text;
    return next ? *next->find(record->name.str()) : *record;
  }
  void share(std::string_view name, const std::function<void(domain&)>& change) {
    auto copy = at[name];
    change(copy);
    at.system.put(std::make_shared<domain>(std::move(copy)));
  }
  static errc code(const plan& x) { return x.refusal ? x.refusal->code : errc::none; }

  sample_system at;
  identity who{.qid = 12, .uuid = tests::sample_uuid(12), .dispid = 4321};
};

std::string volume_line(const volume& x) {
  return fmt::format("{} {} {} snap={:d} save={:d} rw={:d} size={} source={}", x.name, x.pool,
                     x.vid, x.snap_on_start, x.save_on_stop, x.rw, x.size, x.source);
}

} // namespace

// -- what a client may write ----------------------------------------------------------------------

TEST_F(creations, volumes_of_a_callback_pool_are_named_as_the_pool_that_does_the_work_does) {
  at.system.pools.push_back(
      {.name = "back", .driver = "callback", .attributes = {{"conf_id", "here"}}});
  auto vid = [&] {
    auto x = made(make(klass::app, "debian", "name=new label=red pool:private=back", true));
    return x.find_volume("private")->vid;
  };
  EXPECT_EQ(vid(), "appvms/new/private") << "nobody knows what it works with";
  at.machine.callbacks["here"] = {
      .name = {},
      .driver = "lvm_thin",
      .attributes = {{"volume_group", "vg"}, {"thin_pool", "pool"}, {"revisions_to_keep", "4"}}};
  EXPECT_EQ(vid(), "vg/vm-new-private");
  auto x = made(make(klass::app, "debian", "name=new label=red pool:private=back", true));
  EXPECT_EQ(x.find_volume("private")->revisions_to_keep, 4);
}

TEST_F(creations, name_and_label_are_required_and_unique) {
  struct refusal {
    std::string_view payload;
    errc code;
    std::string_view named;
  };
  constexpr refusal table[]{
      {"", errc::value, "KEY=VALUE"},
      {"name=a", errc::protocol, "label"},
      {"label=red", errc::protocol, "name"},
      {"name=a label=red x", errc::value, "'x'"},
      {"name=a b label=red", errc::value, "names have no blanks"},
      {"name=a  label=red", errc::value, "KEY=VALUE"},
      {"name=a name=b label=red", errc::protocol, "'name' is given twice"},
      {"name=a label=red label=blue", errc::protocol, "'label' is given twice"},
      {"name=a label=red colour=1", errc::protocol, "colour"},
      {"name=a label=red pool=p", errc::protocol, "CreateInPool"},
      {"name=a label=red pool:root=p", errc::protocol, "CreateInPool"},
      {"name=a label=mauve", errc::protocol, "mauve"},
      {"name=a label=7", errc::invalid_label, "7"},
      {"name=-a label=red", errc::value, "-a"},
      {"name=none label=red", errc::value, "none"},
      {"name=x-dm label=red", errc::value, "x-dm"},
      {"name=../x label=red", errc::value, "../x"},
      {"name=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa label=red", errc::value, "31"},
      {"name=\xc3\xa4 label=red", errc::protocol, "ASCII"},
  };
  for (auto& x : table) {
    auto got = request(klass::app, "", x.payload);
    ASSERT_FALSE(got) << x.payload;
    EXPECT_EQ(got.error().code, x.code) << x.payload << ": " << got.error().message();
    EXPECT_THAT(got.error().message(), HasSubstr(x.named)) << x.payload;
  }
}

TEST_F(creations, pools_are_named_once_and_in_one_way) {
  EXPECT_EQ(request(klass::app, "", "name=a label=red pool=p pool=q", true).error().code,
            errc::protocol);
  EXPECT_EQ(request(klass::app, "", "name=a label=red pool:root=p pool:root=q", true).error().code,
            errc::protocol);
  EXPECT_EQ(request(klass::app, "", "name=a label=red pool=p pool:root=q", true).error().code,
            errc::protocol);
  EXPECT_THAT(request(klass::app, "", "name=a label=red pool:boot=q", true).error().message(),
              HasSubstr("root, private, volatile, kernel"));
  EXPECT_TRUE(request(klass::app, "", "label=red pool:private=q name=a", true)) << "in any order";
}

TEST_F(creations, only_classes_with_a_template_take_one) {
  for (auto type : {klass::template_vm, klass::standalone, klass::remote, klass::admin})
    EXPECT_EQ(request(type, "debian", "name=a label=red").error().code, errc::protocol);
  EXPECT_TRUE(request(klass::app, "debian", "name=a label=red"));
  EXPECT_TRUE(request(klass::disp, "dvm", "name=a label=red"));
}

// -- the record -----------------------------------------------------------------------------------

TEST_F(creations, an_app_domain_takes_its_root_volume_from_its_template) {
  auto plan = make(klass::app, "", "name=fresh label=blue", false, "work");
  auto x = made(plan);
  EXPECT_EQ(x.properties.at("template"), value{std::string{"debian"}}) << "the default one";
  EXPECT_EQ(x.properties.at("label"), value{std::string{"blue"}});
  EXPECT_EQ(x.qid, 12);
  EXPECT_EQ(x.uuid, who.uuid);
  EXPECT_THAT(x.tags, IsSupersetOf({"created-by-work", "guivm-dom0", "audiovm-dom0"}));
  auto lines = std::vector<std::string>{};
  for (auto& it : x.volumes)
    lines.push_back(volume_line(it));
  EXPECT_THAT(lines,
              ElementsAre("root varlibqubes appvms/fresh/root snap=1 save=0 rw=1 size=1048576 "
                          "source=appvms/debian/root",
                          "private varlibqubes appvms/fresh/private snap=0 save=1 rw=1 "
                          "size=2147483648 source=",
                          "volatile varlibqubes appvms/fresh/volatile snap=0 save=0 rw=1 "
                          "size=10737418240 source=",
                          "kernel linux-kernel 6.1 snap=0 save=0 rw=0 size=0 source="));
  EXPECT_THAT(shown(plan.before), IsEmpty());
  EXPECT_THAT(shown(plan.after), ElementsAre("!domain-add vm=fresh",
                                             "fresh!domain-tag-add:created-by-work "
                                             "tag=created-by-work",
                                             "fresh!domain-create-on-disk"));
}

TEST_F(creations, classes_differ_in_directory_and_volumes) {
  EXPECT_EQ(made(make(klass::template_vm, "", "name=t label=black")).volumes[0].vid,
            "vm-templates/t/root");
  auto alone = made(make(klass::standalone, "", "name=s label=black"));
  EXPECT_EQ(volume_line(alone.volumes[0]), "root varlibqubes appvms/s/root snap=0 save=1 rw=1 "
                                           "size=10737418240 source=");
  auto far = made(make(klass::remote, "", "name=r label=black"));
  EXPECT_TRUE(far.volumes.empty());
  EXPECT_THAT(shown(make(klass::remote, "", "name=r label=black").after),
              ElementsAre("!domain-add vm=r", "r!domain-tag-add:created-by-dom0 "
                                              "tag=created-by-dom0"))
      << "nothing is made on this host's disks";
}

TEST_F(creations, there_is_one_admin_domain) {
  EXPECT_EQ(code(make(klass::admin, "", "name=second label=black")), errc::property_value);
}

TEST_F(creations, updates_are_not_checked_where_the_host_says_so) {
  at.make({{set_property{"", "check_updates_vm", false}}});
  auto x = made(make(klass::app, "", "name=fresh label=blue"));
  ASSERT_TRUE(x.features.find("check-updates"));
  EXPECT_EQ(*x.features.find("check-updates"), "");
}

TEST_F(creations, a_taken_name_a_missing_template_and_a_wrong_one_are_refused) {
  EXPECT_EQ(code(make(klass::app, "", "name=work label=red")), errc::vm_already_exists);
  EXPECT_EQ(code(make(klass::app, "", "name=dom0 label=red")), errc::vm_already_exists);
  EXPECT_EQ(code(make(klass::app, "nosuch", "name=a label=red")), errc::vm_not_found);
  EXPECT_EQ(code(make(klass::app, "work", "name=a label=red")), errc::property_value);
  EXPECT_EQ(code(make(klass::disp, "work", "name=a label=red")), errc::value);
  at.make({{set_property{"", "default_template", none{}}}});
  EXPECT_EQ(code(make(klass::app, "", "name=a label=red")), errc::value);
}

TEST_F(creations, volumes_go_where_they_are_sent) {
  at.make({{add_pool{{.name = "big", .driver = "file-reflink", .attributes = {{"dir_path", "/b"}}}},
            add_pool{{.name = "old", .driver = "file", .attributes = {{"dir_path", "/o"}}}}}});
  auto all = made(make(klass::app, "", "name=a label=red pool=big", true));
  EXPECT_EQ(all.find_volume("root")->pool, "varlibqubes") << "a snapshot stays with its origin";
  EXPECT_EQ(all.find_volume("private")->pool, "big");
  EXPECT_EQ(all.find_volume("volatile")->pool, "big");
  EXPECT_EQ(all.find_volume("kernel")->pool, "linux-kernel");
  auto one = made(make(klass::app, "", "name=a label=red pool:private=old", true));
  EXPECT_EQ(one.find_volume("private")->pool, "old");
  EXPECT_EQ(one.find_volume("volatile")->pool, "varlibqubes");
  auto bad = make(klass::app, "", "name=a label=red pool:root=big", true);
  EXPECT_EQ(code(bad), errc::general);
  EXPECT_THAT(bad.refusal->message(), HasSubstr("varlibqubes"));
  EXPECT_THAT(make(klass::app, "", "name=a label=red pool=nowhere", true).refusal->message(),
              HasSubstr("'nowhere'"));
}

TEST_F(creations, a_kernel_is_in_a_pool_of_kernels_and_nothing_else_is) {
  auto refused = [&](std::string_view pools) {
    auto plan = make(klass::standalone, "", fmt::format("name=a label=red {}", pools), true);
    EXPECT_EQ(code(plan), errc::value) << pools;
    return plan.refusal ? plan.refusal->message() : "accepted";
  };
  EXPECT_THAT(refused("pool:kernel=varlibqubes"), HasSubstr("'varlibqubes'"));
  EXPECT_THAT(refused("pool:private=linux-kernel"), HasSubstr("'linux-kernel'"));
  EXPECT_THAT(refused("pool:root=linux-kernel"), HasSubstr("'linux-kernel'"));
  EXPECT_THAT(refused("pool=linux-kernel"), HasSubstr("'linux-kernel'"));
  at.make({{set_property{"", "default_pool_kernel", std::string{"varlibqubes"}}}});
  EXPECT_EQ(made(make(klass::app, "", "name=a label=red")).find_volume("kernel")->pool,
            "linux-kernel")
      << "a default that is for something else counts as none";
  at.make({{add_pool{
      {.name = "mine", .driver = "linux-kernel", .attributes = {{"dir_path", "/boot/mine"}}}}}});
  at.make({{set_property{"", "default_pool_kernel", std::string{"mine"}}}});
  EXPECT_EQ(made(make(klass::app, "", "name=a label=red")).find_volume("kernel")->pool, "mine");
  auto moved = *at["work"].find_volume("kernel");
  moved.pool = "varlibqubes";
  EXPECT_FALSE(apply(at.system, at.machine, {{set_volume{at["work"].name, moved}}}));
}

// -- disposables ----------------------------------------------------------------------------------

TEST_F(creations, a_disposable_begins_as_its_template_is) {
  share("dvm", [](auto& x) {
    x.properties["memory"] = std::int64_t{333};
    x.properties["label"] = std::string{"green"};
    x.features.set("gui", "1");
    x.features.set("preload-dispvm-max", "2");
    x.tags.insert("team-a");
  });
  auto wanted = plan_disposable(at.view(), at["work"], at["dvm"]);
  ASSERT_TRUE(wanted) << wanted.error().text;
  auto plan = plan_creation(at.view(), *wanted, who);
  auto x = made(plan);
  EXPECT_EQ(x.name.str(), "disp4321");
  EXPECT_EQ(x.properties.at("memory"), value{std::int64_t{333}});
  EXPECT_EQ(read_text({at.view(), &x}, "label"), "green");
  EXPECT_EQ(x.properties.at("dispid"), value{std::int64_t{4321}});
  EXPECT_EQ(x.properties.at("auto_cleanup"), value{true});
  EXPECT_EQ(x.properties.at("template"), value{std::string{"dvm"}});
  EXPECT_FALSE(x.properties.contains("template_for_dispvms"));
  ASSERT_TRUE(x.features.find("gui"));
  EXPECT_FALSE(x.features.find("preload-dispvm-max"));
  EXPECT_THAT(x.tags, IsSupersetOf({"team-a", "created-by-work", "disp-created-by-work"}));
  EXPECT_EQ(x.find_volume("root")->source, "appvms/debian/root") << "the end of the chain";
  EXPECT_EQ(x.find_volume("private")->source, "appvms/dvm/private");
  EXPECT_EQ(x.find_volume("private")->size, at["dvm"].find_volume("private")->size);
  EXPECT_THAT(shown(plan.after), Contains("disp4321!domain-create-on-disk"));
}

TEST_F(creations, a_disposable_with_a_name_stays) {
  auto x = made(make(klass::disp, "dvm", "name=keeper label=red"));
  EXPECT_EQ(x.name.str(), "keeper");
  EXPECT_EQ(x.properties.at("dispid"), value{std::int64_t{4321}});
  EXPECT_FALSE(read_bool({at.view(), &x}, "auto_cleanup"));
  EXPECT_FALSE(x.tags.contains("disp-created-by-dom0"));
}

TEST_F(creations, disposables_come_of_templates_for_them_only) {
  EXPECT_EQ(plan_disposable(at.view(), at["work"], at["vault"]).error().code, errc::general);
  EXPECT_EQ(plan_disposable(at.view(), at["work"], at["dom0"])->based_on, "dvm")
      << "the default of who asks";
  at.make({{set_property{"work", "default_dispvm", none{}}}});
  auto refused = plan_disposable(at.view(), at["work"], at["dom0"]);
  EXPECT_EQ(refused.error().code, errc::general);
  EXPECT_THAT(refused.error().text, HasSubstr("'work'"));
}

// -- numbers --------------------------------------------------------------------------------------

TEST_F(creations, the_lowest_free_number_is_taken) {
  EXPECT_EQ(free_qid(at.system, {}), 12);
  EXPECT_EQ(free_qid(at.system, std::vector<std::int64_t>{12, 14, 13, -1, 1'000'000}), 15);
  at.system.remove("work");
  EXPECT_EQ(free_qid(at.system, {}), 6) << "a number is free at once";
  auto all = std::vector<std::int64_t>(9999);
  std::iota(all.begin(), all.end(), 1);
  EXPECT_EQ(free_qid(at.system, all), std::nullopt);
  all.pop_back();
  EXPECT_EQ(free_qid(at.system, all), 9999);
}

// -- the end --------------------------------------------------------------------------------------

TEST_F(creations, removal_is_announced_and_told) {
  auto x = plan_removal(at.view(), at["work"]);
  EXPECT_EQ(code(x), errc::none);
  EXPECT_THAT(shown(x.before), ElementsAre("!domain-pre-delete vm=work"));
  EXPECT_THAT(shown(x.after), ElementsAre("!domain-delete vm=work"));
  EXPECT_TRUE(apply(at.system, at.machine, x.what));
}

TEST_F(creations, a_refused_removal_names_the_users) {
  struct user {
    std::string_view domain;
    std::vector<std::string_view> named;
  };
  for (auto& x : {user{"debian", {"work", "sys-net", "default_template"}},
                  user{"fedora", {"vault"}}, user{"sys-net", {"sys-firewall", "far"}},
                  user{"sys-firewall", {"sys-vpn", "default_netvm"}},
                  user{"dvm", {"disp1", "default_dispvm"}}}) {
    auto refused = plan_removal(at.view(), at[x.domain]);
    EXPECT_EQ(code(refused), errc::vm_in_use) << x.domain;
    for (auto who : x.named)
      EXPECT_THAT(refused.refusal->message(), HasSubstr(who)) << x.domain;
    EXPECT_TRUE(refused.what.empty());
    EXPECT_THAT(shown(refused.after), IsEmpty());
  }
}

TEST_F(creations, a_domain_whose_devices_are_assigned_is_in_use) {
  at.make({{set_devices{"vault", {"block", {tests::device_of("work", "sda")}}}}});
  auto refused = plan_removal(at.view(), at["work"]);
  EXPECT_EQ(code(refused), errc::vm_in_use);
  EXPECT_THAT(refused.refusal->message(), HasSubstr("vault:block sda"));
}

TEST_F(creations, running_and_packaged_domains_and_dom0_are_not_removed) {
  EXPECT_EQ(code(plan_removal(at.view(), at["dom0"])), errc::vm_in_use);
  at.live("work", power::running);
  EXPECT_EQ(code(plan_removal(at.view(), at["work"])), errc::vm_not_halted);
  at.make({{set_property{"vault", "installed_by_rpm", true}}});
  EXPECT_EQ(code(plan_removal(at.view(), at["vault"])), errc::vm_in_use);
  EXPECT_EQ(code(plan_removal(at.view(), at["far"])), errc::none) << "nothing of it is here";
}

TEST_F(creations, a_new_domain_survives_the_file) {
  auto plan = make(klass::disp, "dvm", "name=keeper label=red");
  auto next = apply(at.system, at.machine, plan.what);
  ASSERT_TRUE(next);
  auto loaded = xml::load(xml::save(*next), at.machine, [] { return std::string{}; });
  ASSERT_TRUE(loaded);
  ASSERT_TRUE(loaded->system.find("keeper"));
  EXPECT_EQ(*loaded->system.find("keeper"), *next->find("keeper"));
  EXPECT_EQ(apply(*next, at.machine, invert(at.system, plan.what)), at.system);
}

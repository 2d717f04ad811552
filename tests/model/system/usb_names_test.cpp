#include "model/system/usb_names.hpp"

#include <gtest/gtest.h>

using qubes::model::usb_names;

namespace {

const usb_names& few_names() {
  static const auto all = usb_names{"# a list\n"
                                    "\n"
                                    "046d  Logitech, Inc.\n"
                                    "\t0825  Webcam C270\n"
                                    "\tc52b  Unifying Receiver\n"
                                    "# between\n"
                                    "\tzzzz  no number\n"
                                    "0951  Kingston Caf\xc3\xa9\n"
                                    "\t1666  DataTraveler 100 G3/G4/SE9 G2/50 Kyson\n"
                                    "oops\n"
                                    "\t0001  of nobody\n"
                                    "1d6b\n"
                                    "C 00  (Defined at Interface level)\n"
                                    "0bda  after the end\n"};
  return all;
}

} // namespace

TEST(usb_names, are_found_by_both_numbers) {
  EXPECT_EQ(few_names().vendor("046d"), "Logitech, Inc.");
  EXPECT_EQ(few_names().product("046d", "0825"), "Webcam C270");
  EXPECT_EQ(few_names().product("046D", "C52B"), "Unifying Receiver");
  EXPECT_EQ(few_names().product("0951", "1666"), "DataTraveler 100 G3/G4/SE9 G2/50 Kyson");
}

TEST(usb_names, are_empty_for_unknown_numbers) {
  EXPECT_EQ(few_names().vendor("0bda"), "") << "after the end of the products";
  EXPECT_EQ(few_names().vendor("1d6b"), "") << "without a name";
  EXPECT_EQ(few_names().product("046d", "1666"), "") << "of another vendor";
  EXPECT_EQ(few_names().product("0951", "0001"), "") << "below a line that makes no sense";
  for (auto bad : {"", "46d", "0x46", "046dd", "-046", " 046"})
    EXPECT_EQ(few_names().vendor(bad), "") << bad;
  EXPECT_EQ(usb_names{}.vendor("046d"), "");
}

TEST(usb_names, are_printable) {
  EXPECT_EQ(few_names().vendor("0951"), "Kingston Caf__");
}

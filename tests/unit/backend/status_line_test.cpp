// SPDX-License-Identifier: Apache-2.0
#include "backend/status_line.hpp"

#include "tests/catch.hpp"

namespace vtpm {

TEST_CASE("systemd's line tells what is served and what is wrong") {
    CHECK(status_line({.room = 3500, .has_manager = true}) == "0 vTPMs; room for 3500 more");
    CHECK(status_line({.devices = 1, .connected = 1, .room = 9, .has_manager = true}) ==
          "1 vTPM, 1 connected; room for 9 more");
    CHECK(status_line({.devices = 12, .connected = 10, .failed = 1, .has_manager = false}) ==
          "12 vTPMs, 10 connected, 1 FAILED (xen-vtpm status); WITHOUT xen-vtpm-managerd, nothing is stored and none "
          "starts; room for 0 more");
}

}  // namespace vtpm

// SPDX-License-Identifier: Apache-2.0
// What the programs of an upgrade would do to the engines that run, told while the former daemon still serves them.
#pragma once

#include <string>

#include "base/bus.hpp"
#include "base/result.hpp"

namespace vtpm {

class EngineHost;

// ListZygotes() of a daemon on the bus: each one's number of engines, and the versions that these speak.
bus::Rows describe_zygotes(const EngineHost &engines);

// Whether this program can take over what a daemon that answers with `zygotes` has: kRefused says what would be lost.
Result<> can_take_over(const bus::Rows &zygotes);

// Asks the daemon that runs; the answer for people. Success, too, if there is none.
Result<std::string> check_upgrade();

}  // namespace vtpm

// SPDX-License-Identifier: Apache-2.0
// What base/bus.cpp puts into messages and takes out of them. Each returns an sd-bus result: negative is an error.
#pragma once

#include "base/bus.hpp"

namespace vtpm::bus {

int append(sd_bus_message *message, const Reply &reply);
int append(sd_bus_message *message, const Arguments &arguments);
int read(sd_bus_message *message, Arguments &arguments);
int read(sd_bus_message *message, Reply &reply);  // by the message's signature

// D-Bus error names and our codes, both ways; a name that is not ours is kSystem.
const char *error_name(ErrorCode code);
ErrorCode error_code(const char *name);

}  // namespace vtpm::bus

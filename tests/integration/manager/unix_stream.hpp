// SPDX-License-Identifier: Apache-2.0
// Stream sockets by path, as swtpm has them.
#pragma once

#include <string>

#include "base/unique_fd.hpp"

namespace unix_stream {

// Takes the place of a socket that a former process left there.
vtpm::UniqueFd listen_at(const std::string &path);
// None: nobody listens there.
vtpm::UniqueFd connect_to(const std::string &path);

}  // namespace unix_stream

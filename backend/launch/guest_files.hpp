// SPDX-License-Identifier: Apache-2.0
// Where a guest's kernel comes from: files of dom0, or the guest's disk by another boot loader.
#pragma once

#include <optional>
#include <string>

#include "backend/launch/private_file.hpp"
#include "backend/launch/request.hpp"

namespace vtpm::launch {

struct GuestFiles {
    UniqueFd kernel;
    std::optional<UniqueFd> ramdisk;
    std::string arguments;  // the kernel's command line
};

// kernel=, ramdisk= and the command line of the guest's configuration. Errors: as open_source().
Result<GuestFiles> files_of_configuration(const Request &request);

// Runs pygrub in a directory of its own within `directory`, for as long as it takes (a person may be at its menu), and
// takes what it has put there. Nothing of that stays. kNotFound: there is no pygrub; kRefused: it failed, or names
// something else than its own files.
Result<GuestFiles> files_of_disk(const Request &request, const PrivateDirectory &directory);

}  // namespace vtpm::launch

// SPDX-License-Identifier: Apache-2.0
#include "swtpm.hpp"

#include <fmt/format.h>

#include <filesystem>

#include "unix_stream.hpp"

namespace {

Launch launch(const std::string &directory, int data, int control) {
    return {{"swtpm", "socket", "--tpm2", "--tpmstate", "dir=" + directory, "--server",
             fmt::format("type=unixio,fd={}", data), "--ctrl", fmt::format("type=unixio,fd={}", control), "--flags",
             "not-need-init,startup-clear", "--log", "file=" + directory + "/log"},
            {},
            {data, control}};
}

}  // namespace

Swtpm::Swtpm(const std::string &directory)
    : path_(directory + "/tpm"),
      data_((std::filesystem::create_directories(directory), unix_stream::listen_at(path_))),
      control_(unix_stream::listen_at(path_ + ".ctrl")),
      process_(launch(directory, data_.get(), control_.get())) {}

// SPDX-License-Identifier: Apache-2.0
// The state directory: one manager at a time, and a database that is gone is not mistaken for one that never was.
#pragma once

#include <string>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace vtpm {

// The file `store.id` in the state directory. Its lock says that a manager works here; its content is the id of the
// store whose database must be beside it, and is empty until that database is complete.
class StateDirectory {
public:
    // kInUse: another manager works here.
    static Result<StateDirectory> lock(const std::string &path);

    [[nodiscard]] const std::string &path() const { return path_; }
    [[nodiscard]] std::string database() const { return path_ + "/store.db"; }
    [[nodiscard]] const std::string &store_id() const { return store_id_; }
    // There, and not empty.
    [[nodiscard]] bool has_database() const;
    // Durable before it returns.
    Result<> set_store_id(const std::string &id);

private:
    StateDirectory(std::string path, UniqueFd id_file) : path_(std::move(path)), id_file_(std::move(id_file)) {}
    Result<> read_store_id();

    std::string path_;
    UniqueFd id_file_;
    std::string store_id_;
};

}  // namespace vtpm

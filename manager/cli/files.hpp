// SPDX-License-Identifier: Apache-2.0
// The files that a user names on the command line.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"
#include "base/secret.hpp"

namespace vtpm::cli {

// What errno says of a path that cannot `do_what`.
tl::unexpected<Error> cannot(const char *do_what, const std::string &path);

// The content of a file; "-" is standard input. At most a MiB.
Result<std::string> read_input(const std::string &path);

// The same for a private key, into memory that is wiped.
Result<SecretBytes> read_key(const std::string &path);

// The same for what is a secret: asked for, and not shown, where standard input is a terminal.
Result<std::string> read_secret(const std::string &path, const char *what);

// Wiped when it goes.
struct SecretText {
    std::string text;
    SecretText() = default;
    SecretText(const SecretText &) = delete;
    SecretText &operator=(const SecretText &) = delete;
    ~SecretText();
};

// A question for who sits at the terminal; no, if standard input is none.
bool says_yes(std::string_view question);

// For what destroys: tells the consequence and asks, unless `yes` answered that. kRefused: nothing is to be done.
Result<> confirm(bool yes, std::string_view consequence);

// A new file, `from`'s content, which is gone then. As write_output().
Result<> move_into(const std::string &from, const std::string &path);

// A new file that only its owner reads, durable when this returns. kInUse: it exists.
Result<> write_output(const std::string &path, std::string_view content);

}  // namespace vtpm::cli

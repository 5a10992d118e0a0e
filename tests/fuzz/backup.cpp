// SPDX-License-Identifier: Apache-2.0
// A backup from outside: only what was sealed opens, whatever its header says. Input: whether it is the PEM file or
// what is in it; then that, which is the state of a backup as well.
#include "manager/vtpm/backup.hpp"

#include <algorithm>

#include "manager/crypto/pem.hpp"

namespace vtpm {
namespace {

Key a_key() {
    auto made = key_from(Bytes(kKeySize, 7));
    require(made.has_value(), "a key");
    return std::move(*made);
}

void read_foreign(const Key &key, std::string_view pem) {
    const auto backup = parse_backup(pem);
    if (!backup) return;
    require(backup->encoded_header.size() + backup->box.size() <= pem.size(), "a backup is bounded by its file");
    require(!open_backup(key, *backup), "a backup that was never made");
}

void round_trip(const Key &key, ByteView state) {
    BackupHeader header;
    header.uuid = *Uuid::parse("00112233-4455-6677-8899-aabbccddeeff");
    header.group = "default";
    header.endorsement.assign(state.begin(), state.end());
    const auto made = make_backup(key, header, state);
    if (!made) return;
    auto backup = parse_backup(*made);
    require(backup && std::ranges::equal(backup->header.endorsement, state), "what is written is read");
    const auto opened = open_backup(key, *backup);
    require(opened.has_value() == !state.empty(), "what was sealed opens, if it is a state");
    require(!opened || std::ranges::equal(opened->view(), state), "as what it was");
    Bytes &changed = state.size() % 2 == 0 ? backup->box : backup->encoded_header;
    changed[state.size() % changed.size()] ^= 1;
    require(!open_backup(key, *backup), "a changed backup");
}

}  // namespace
}  // namespace vtpm

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    using namespace vtpm;
    static const Key key = a_key();
    if (size == 0) return 0;
    const ByteView input(data + 1, size - 1);
    if (data[0] % 2 == 0)
        read_foreign(key, {reinterpret_cast<const char *>(input.data()), input.size()});  // bytes as text
    else
        read_foreign(key, to_pem("XEN VTPM BACKUP", input));
    if (input.size() < 1024) round_trip(key, input);
    return 0;
}

// SPDX-License-Identifier: Apache-2.0
// What the command line asks of the two daemons.
#pragma once

#include <optional>
#include <string>

#include "base/bus.hpp"

namespace vtpm::cli {

class Daemons {
public:
    // The manager's answers are waited for as long as they take: `still_waiting` is told of that.
    static Result<Daemons> reach(bus::Client::StillWaiting still_waiting);

    Result<bus::Dictionary> status();
    Result<bus::Rows> list();
    Result<bus::Dictionary> show(const std::string &uuid);
    // The UUID of the vTPM with this alias, or whose guest was called so last.
    Result<std::string> find(const std::string &name);
    // Empty: none any more.
    Result<> set_alias(const std::string &uuid, const std::string &alias);
    // Empty texts: the manager chooses. The new vTPM's UUID.
    Result<std::string> create(const std::string &uuid, const std::string &version, const std::string &group,
                               const std::string &pcr_banks, const std::string &launch);
    Result<> destroy(const std::string &uuid);
    // The order is given, or taken back; of a group: how many were.
    Result<> reissue(const std::string &uuid, bool withdraw);
    Result<bus::Dictionary> reissue_group(const std::string &group, bool withdraw);
    Result<> set_launch(const std::string &uuid, const std::string &launch, const std::string &release);
    Result<bus::Rows> groups();
    // `pcrs` or `approver` (PEM); both empty: sealed to the TPM only.
    Result<> create_group(const std::string &name, const std::string &pcrs, const std::string &approver);
    Result<> open_group(const std::string &name);
    Result<> reseal_group(const std::string &name, const std::string &pcrs, const std::string &approver);
    Result<> renew_group(const std::string &name);
    Result<> rekey_group(const std::string &name, bool new_ca);
    Result<> delete_group(const std::string &name);
    Result<> discard_group(const std::string &name);
    // The key, as it is to be written down.
    Result<std::string> export_recovery_key(const std::string &group, bool replace);
    // What xen-vtpm(1) has of `group check-recovery`, and approver_key (PEM).
    Result<bus::Dictionary> check_recovery(const std::string &group, const std::string &recovery_key);
    // `pcrs` or `approver` (PEM); both empty: sealed to the TPM only. `generation` 0: the present one.
    struct Recovery {
        std::string group;
        std::string pcrs;
        std::string approver;
        std::uint32_t generation = 0;
        bool accept_rollback = false;
        bool new_tpm = false;
    };
    Result<> recover_group(const Recovery &recovery, const std::string &recovery_key);
    // The backup (PEM).
    Result<std::string> export_vtpm(const std::string &uuid);
    // The vTPM's UUID. `group` and `recovery_key` may be empty.
    Result<std::string> import_vtpm(const std::string &backup, const std::string &group,
                                    const std::string &recovery_key, bool replace, bool original_is_gone,
                                    const std::string &in_use);
    Result<bus::Dictionary> ca(const std::string &group);
    // PKCS#10, PEM.
    Result<std::string> request_ca(const std::string &group);
    Result<> import_ca(const std::string &group, const std::string &certificate);
    // Documents of manager/attestation/. `pcrs` may be empty.
    Result<std::string> attest(const std::string &uuid, const std::string &nonce, const std::string &pcrs);
    Result<std::string> host_identity(const std::string &endorsement_key);
    Result<std::string> answer_challenge(const std::string &challenge);
    Result<> accept_rollback(const std::string &group);
    Result<> start_anew();
    // The path of a copy of the store, which is ours to take away.
    Result<std::string> back_up();
    Result<bus::Rows> audit_log();
    // kRefused: it is not as it was written.
    Result<> verify_audit_log();
    // The policy's id.
    Result<std::string> install_policy(const std::string &document);
    Result<bus::Rows> policies();
    Result<> revoke_policy(const std::string &id);
    // The approval's id.
    Result<std::string> install_launches(const std::string &document);
    Result<bus::Rows> launches();
    Result<> remove_launches(const std::string &id);
    // The backend's devices; nothing if it does not run.
    Result<std::optional<bus::Rows>> devices();
    // What its engines have counted; nothing if it does not run.
    Result<std::optional<bus::Rows>> meters();
    // How many engines it has, and for how many more there is room; nothing if it does not run.
    Result<std::optional<bus::Dictionary>> backend_status();

private:
    Daemons(bus::Client bus, bus::Client::StillWaiting still_waiting)
        : bus_(std::move(bus)), still_waiting_(std::move(still_waiting)) {}
    template <typename T>
    Result<T> ask_manager(const char *method, const bus::Arguments &arguments = {});
    template <typename T>
    Result<std::optional<T>> ask_backend(const char *method);
    bus::Client bus_;
    bus::Client::StillWaiting still_waiting_;
};

}  // namespace vtpm::cli

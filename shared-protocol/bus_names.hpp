// SPDX-License-Identifier: Apache-2.0
// Where the daemons are found on the system bus (docs/protocol.md).
#pragma once

#include "base/bus.hpp"

namespace vtpm {

// Status() -> a{sv}, List(s "" or the last row's next) -> aa{sv}, Show(s uuid) -> a{sv}, Create(s uuid or "", s version
// or "", s group or "", s PCR banks or "", s launch or "") -> s uuid, SetLaunch(s uuid, s launch, s release
// or ""), Destroy(s uuid), InstallLaunches(s document) -> s id, ListLaunches() -> aa{sv}, RemoveLaunches(s id),
// Reissue(s uuid, s "withdraw" or ""), ReissueGroup(s group, s "withdraw" or "") -> a{sv} ListGroups() -> aa{sv},
// CreateGroup and ResealGroup(s name, s PCRs or "", s approver's PEM or ""), RekeyGroup(s name, s "new-ca" or ""),
// DeleteGroup(s name), DiscardGroup(s name) InstallPolicy(s document) -> s id, ListPolicies() -> aa{sv}, RevokePolicy(s
// id) ExportRecoveryKey(s group, s "replace" or "") -> s key, RecoverGroup(s group, s key, s "accept-rollback" or "")
// ExportVtpm(s uuid) -> s backup, ImportVtpm(s backup, s group or "", s recovery key or "", s "replace" or "",
// s "original-is-gone" or "", s UUIDs that have an engine) -> s uuid
// ShowCa(s group) -> a{sv}, RequestCa(s group) -> s PKCS#10, ImportCa(s group, s certificate)
// Attest(s uuid, s nonce, s PCRs or "") -> s document, HostIdentity(s "", "rsa-2048" or "ecc-p256") -> s document,
// AnswerChallenge(s document) -> s secret AcceptRollback(s group), StartAnew(), AuditLog() -> aa{sv}, VerifyAuditLog()
constexpr bus::Address kManagerBus{"org.xenvtpm.Manager1", "/org/xenvtpm/Manager1", "org.xenvtpm.Manager1"};

// Status() -> a{sv}, ListDevices() -> aa{sv}, ListMeters() -> aa{sv}, ListZygotes() -> aa{sv}, RecordLaunch(s domain, s
// log) (record_launch.hpp)
constexpr bus::Address kBackendBus{"org.xenvtpm.Backend1", "/org/xenvtpm/Backend1", "org.xenvtpm.Backend1"};

// The unit of systemd in which a zygote is with its engines: this, its pid, and ".scope".
constexpr const char *kEngineScope = "xen-vtpm-engines-";

}  // namespace vtpm

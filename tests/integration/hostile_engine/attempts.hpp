// SPDX-License-Identifier: Apache-2.0
// What an engine that was taken over may try. The test gives one attempt to each hostile engine, in StartEngine's
// `device`, and the pid of a victim in `domain`.
#pragma once

#include <cstdint>

// There when the attempts are made.
#define VTPM_HOST_FILE "/proc/1/status"
#define VTPM_HOST_SHM 0x7674706d

namespace vtpm {

enum class Attempt : std::uint32_t {
    kNone,  // waits for its end: a victim
    kOpenFile,
    kOpenDirectory,
    kOpenProc,
    kOpenDevice,
    kMakeFile,
    kReachManager,
    kReachAbstractSocket,
    kReachNetwork,
    kUseForeignDescriptor,
    kSignalVictim,
    kSignalAll,
    kTraceVictim,
    kReadVictim,
    kOpenVictim,
    kExecute,
    kFork,
    kBecomeRoot,
    kMount,
    kEnterNamespace,
    kLoadModule,
    kDumpCore,
    kSharedMemory,
    kManyDescriptors,
    kComputeForever,
    kFloodDaemon,
    kFloodJournal,
    // What only the filter refuses.
    kMapCode,
    kBindEventChannel,
    kMapGrant,
    kEnterUserNamespace,
};

}  // namespace vtpm

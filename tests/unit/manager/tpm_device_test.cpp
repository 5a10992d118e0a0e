// SPDX-License-Identifier: Apache-2.0
#include "manager/tpm/tpm_device.hpp"

#include <filesystem>

#include "expect.hpp"
#include "fake_sealer.hpp"
#include "manager/groups/group_keys.hpp"
#include "manager/store/sqlite_store.hpp"
#include "quiet_errors.hpp"
#include "temporary_directory.hpp"

namespace vtpm::tpm_device_test {
namespace fs = std::filesystem;

namespace {

// As the kernel shows them: an entry of the class leads to the chip, which leads to the device, which to its bus.
struct Sysfs {
    TemporaryDirectory directory;
    [[nodiscard]] std::string root() const { return directory.path(); }

    void add(unsigned number, const std::string &device, const std::string &bus) const {
        const fs::path parent = fs::path(root()) / "devices" / device;
        fs::create_directories(fs::path(root()) / "bus" / bus);
        fs::create_directories(parent);
        if (!fs::exists(parent / "subsystem")) fs::create_symlink("../../bus/" + bus, parent / "subsystem");
        add_chip(number, parent);
        fs::create_symlink("../..", parent / "tpmrm" / entry(number) / "device");
    }
    // Of vtpm_proxy.
    void add_virtual(unsigned number) const { add_chip(number, fs::path(root()) / "devices/virtual"); }
    void remove(unsigned number) const { fs::remove(fs::path(root()) / "class/tpmrm" / entry(number)); }

    [[nodiscard]] Result<TpmDevice> find(const std::string &name = {}) const { return find_hardware_tpm(name, root()); }

private:
    static std::string entry(unsigned number) { return "tpmrm" + std::to_string(number); }
    void add_chip(unsigned number, const fs::path &parent) const {
        fs::create_directories(parent / "tpmrm" / entry(number));
        fs::create_directories(fs::path(root()) / "class/tpmrm");
        fs::create_symlink(parent / "tpmrm" / entry(number), fs::path(root()) / "class/tpmrm" / entry(number));
    }
};

}  // namespace

TEST_CASE_METHOD(Sysfs, "the one hardware TPM is found, whatever its number") {
    REQUIRE(expect_error(find()).code == ErrorCode::kUnavailable);  // not even a class
    add(0, "MSFT0101:00", "acpi");
    REQUIRE(expect(find()).tcti() == "device:/dev/tpmrm0");
    REQUIRE(expect(find()).name == "MSFT0101:00");
    remove(0);
    REQUIRE_THAT(expect_error(find()).text, Contains("no hardware TPM 2.0"));
    add(17, "MSFT0101:00", "acpi");
    REQUIRE(expect(find()).tcti() == "device:/dev/tpmrm17");
}

TEST_CASE_METHOD(Sysfs, "a TPM that the kernel or Xen makes up is not the hardware's") {
    add_virtual(0);
    add(1, "vtpm-0", "xen");
    fs::create_directories(root() + "/class/tpmrm/tpmrm");
    fs::create_directories(root() + "/class/tpmrm/tpmrm2x");
    REQUIRE(expect_error(find()).code == ErrorCode::kUnavailable);
    REQUIRE(expect_error(find("vtpm-0")).code == ErrorCode::kUnavailable);
    add(3, "spi0.0", "spi");
    REQUIRE(expect(find()).number == 3);
}

TEST_CASE_METHOD(Sysfs, "of several the configuration names one; else they are refused, by name") {
    add(1, "spi0.0", "spi");
    add(0, "MSFT0101:00", "acpi");
    const Error error = expect_error(find());
    REQUIRE(error.code == ErrorCode::kRefused);
    REQUIRE_THAT(error.text,
                 Contains("MSFT0101:00 (/dev/tpmrm0), spi0.0 (/dev/tpmrm1)") && Contains("tpm = \"MSFT0101:00\""));
    REQUIRE(expect(find("spi0.0")).number == 1);
    remove(1);
    const Error gone = expect_error(find("spi0.0"));
    REQUIRE(gone.code == ErrorCode::kUnavailable);
    REQUIRE_THAT(gone.text, Contains("no hardware TPM 'spi0.0'") && Contains("MSFT0101:00"));
}

TEST_CASE_METHOD(Sysfs,
                 "a TPM that comes later, and one that comes back under another number, are found without a restart") {
    const QuietErrors quiet;
    const TemporaryDirectory state;
    SqliteStore store = expect(SqliteStore::open(state.path()));
    FakeTpm tpm;
    std::string tcti;
    GroupKeys keys(store, "tpm", [&](ByteView pinned) -> Result<std::unique_ptr<Sealer>> {
        VTPM_ASSIGN(const TpmDevice found, find());
        tcti = found.tcti();
        return tpm.opener()(pinned);
    });
    REQUIRE(expect_error(keys.unlock()).code == ErrorCode::kUnavailable);
    REQUIRE(keys.waits());
    add(0, "MSFT0101:00", "acpi");
    expect(keys.unlock());
    REQUIRE(tcti == "device:/dev/tpmrm0");
    remove(0);
    REQUIRE(expect_error(keys.create({"tenant", {}, {}, 1})).code == ErrorCode::kUnavailable);
    expect(keys.key("default"));
    add(1, "MSFT0101:00", "acpi");
    expect(keys.create({"tenant", {}, {}, 1}));
    REQUIRE(tcti == "device:/dev/tpmrm1");
}

}  // namespace vtpm::tpm_device_test

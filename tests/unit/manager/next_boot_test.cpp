// SPDX-License-Identifier: Apache-2.0
#include "manager/boot/next_boot.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "expect.hpp"
#include "launch/tcg_log.hpp"
#include "log_writer.hpp"
#include "manager/boot/event_data.hpp"
#include "manager/boot/kernel_names.hpp"
#include "manager/boot/measured_boot.hpp"
#include "manager/crypto/encoding.hpp"
#include "temporary_directory.hpp"
#include "tests/unit/launch/pe_writer.hpp"

namespace vtpm::next_boot_test {

namespace {

constexpr const char *kAll = "sha256:0,2,4,7,8,9,14";
constexpr std::uint32_t kApplication = 0x80000003;
constexpr std::uint32_t kIpl = 13;
constexpr std::uint32_t kTagged = 6;

Bytes hex(const char *text) { return from_hex(text).value(); }

PcrSelection pcrs(const char *selection) { return expect(PcrSelection::parse(selection)); }

Bytes text(std::string_view bytes) { return {bytes.begin(), bytes.end()}; }

// What is on a disk and in the firmware.
struct Place {
    std::map<std::string, std::vector<FileDigests>> files;
    std::map<std::string, std::string> texts{};
    std::map<std::string, Bytes> variables{};

    [[nodiscard]] BootFiles reader() const {
        const auto find = [this](const std::string &path) {
            const auto found = files.find(path);
            return found == files.end() ? std::vector<FileDigests>() : found->second;
        };
        const auto read = [this](const std::string &path) {
            const auto found = texts.find(path);
            return found == texts.end() ? std::vector<std::string>() : std::vector{found->second};
        };
        const auto variable = [this](const std::string &name) -> std::optional<Bytes> {
            const auto found = variables.find(name);
            return found == variables.end() ? std::nullopt : std::optional(found->second);
        };
        return {find, read, variable};
    }
};

// Of tests/unit/launch/golden/log-grub.bin: its README.
struct Golden : Place {
    Bytes log;

    Golden() {
        std::ifstream file(VTPM_GOLDEN "/log-grub.bin", std::ios::binary);
        log.assign(std::istreambuf_iterator<char>(file), {});
        files = {
            {"/EFI/BOOT/BOOTX64.EFI", {{{}, hex("80a66d53a945d2286fcadd780fae1c225aa732079cd67b5225dc78aaab4e2ff8")}}},
            {"/EFI/BOOT/grubx64.efi", {{{}, hex("a68f6d71ebddaa19751ff8d729f67d11b0df8e4c49400c3e7e90de16119e1265")}}},
            {"/EFI/debian/grub.cfg", {{now("(hd0,msdos1)/EFI/debian/grub.cfg"), {}}}},
            {"/boot/grub/grub.cfg", {{now("(hd0,msdos1)/boot/grub/grub.cfg"), {}}}},
            {"/boot/vmlinuz",
             {{hex("51349501a3d1ff83836437d2b365fd2d57f2feb8642d315e5181dec23d4c3275"),
               hex("5f21ff2c0d5d899842b28a8b19901ba72cf7a7ab93c02a77fadc6ff72be85b31")}}},
            {"/boot/initrd.img", {{hex("6e2a5b2c479f8c78e1a1bd2dad2f9bcc4b13f6e08abd49d2b5ddf31b5571324e"), {}}}},
        };
        const std::string global = "-8be4df61-93ca-11d2-aa0d-00e098032b8c";
        const std::string database = "-d719b2cb-3d3a-4596-a3bc-dad00e67656f";
        for (const char *name : {"SecureBoot", "PK", "KEK"}) variables[name + global] = data_of(name);
        for (const char *name : {"db", "dbx"}) variables[name + database] = data_of(name);
    }
    void update_kernel() {
        files["/boot/vmlinuz"] = {{hex("1a7ac0c40b10b98353b6f85fa9a0d4f2703287979567e19629d35ad2d777d124"),
                                   hex("65c89335d8a5d25a8eeffd4de4a02087ac8dcf26165dbff8806a19f68ecd2842")}};
        files["/boot/initrd.img"] = {{hex("8dc0dd4b9753faa85565e483b4bdcd8fc35532d986a798aa461396f67f5fd83c"), {}}};
    }
    [[nodiscard]] NextBoot next(const char *selection = kAll) const {
        return expect(next_boot(log, pcrs(selection), std::nullopt, reader()));
    }
    // Digest of the file that GRUB read, as it logged it.
    [[nodiscard]] Bytes now(std::string_view name) const {
        const auto read = launch::read_tcg_log(log);
        for (const auto &event : read.value().events)
            if (event.pcr == 9 && std::ranges::equal(event.data.first(event.data.size() - 1), bytes_of(name)))
                return {event.digests.at(1).value.begin(), event.digests.at(1).value.end()};
        return {};
    }
    [[nodiscard]] Bytes data_of(std::string_view name) const {
        const auto read = launch::read_tcg_log(log);
        for (const auto &event : read.value().events) {
            const auto variable = event.pcr == 7 ? firmware_variable(event.data) : std::nullopt;
            if (event.type == kVariableConfigEvent && variable && variable->name == name)
                return {variable->data.begin(), variable->data.end()};
        }
        return {};
    }
};

// What the TPM had after the boots.
const std::map<unsigned, const char *> kBoth = {
    {0, "27fcccfa7f522e228d13ff449bd8c39507a97d7d96b808e9608ddff9b6b0719a"},
    {2, "3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969"},
    {7, "75677db6f14082d3bfec4d14bdd75c8d72612ef6914ca99cd5a5997b7a21309d"},
    {8, "05f2e1f9eb3e77431f27ec15a7bc7c223fb4abeb96594dc62e591b0c3fb39162"},
    {14, "b9c97933fe323334271a718fdf2966e0609afcb793f3b68aaf18fc31ea39dc0a"}};
const std::map<unsigned, const char *> kFirst = {
    {4, "bcfdb7093bc99bff1d11eec98c63ab4e8709d4cb7f234cc01c8d0a9d15012b19"},
    {9, "67ceea0683974fc612b670ec4fd7bdc70933287de653bb8b006fc1da2029fcd0"}};
const std::map<unsigned, const char *> kSecond = {
    {4, "9f719a3d931af91f5399aca8dd74216ce5435746d0f0ab0cb1fa857ecf3fd08c"},
    {9, "d819388b13488fd8e08159536dfc8fcbdc87954c826e032a954486da062d0912"}};

PcrValues values(std::map<unsigned, const char *> some) {
    PcrValues values;
    some.insert(kBoth.begin(), kBoth.end());
    for (const auto &[pcr, value] : some) values[pcr] = hex(value);
    return values;
}

// "4 7": what is not as now; "8? 9?": what is not known.
std::string told(const NextBoot &next) {
    std::string text;
    for (const auto &[pcr, why] : next.why)
        if (why != "as now") text += fmt::format("{} ", pcr);
    for (const auto &[pcr, why] : next.unknown) text += fmt::format("{}? ", pcr);
    return text;
}

}  // namespace

TEST_CASE_METHOD(Golden, "the PCRs of a real boot are predicted from the log of the one before and from the files") {
    REQUIRE(next().values == values(kFirst));
    REQUIRE(told(next()).empty());
    update_kernel();
    const NextBoot second = next();
    REQUIRE(second.values == values(kSecond));
    REQUIRE(told(second) == "4 9 ");
    REQUIRE(second.why.at(4) == "changed: /boot/vmlinuz");
    REQUIRE(second.why.at(9) == "changed: /boot/vmlinuz, /boot/initrd.img");
    REQUIRE_THAT(second.assumptions.at(0), Contains("same firmware, boot entry"));
    REQUIRE_THAT(second.assumptions.at(1), Contains("who signed") && Contains("PCR 7"));
}

namespace {

// What update-grub makes of two kernels, but shorter. Of tests/unit/launch/golden/log-grub-versions.bin: its README.
struct Versions : Place {
    static constexpr const char *kRoot = " root=/dev/none ro console=ttyS0 panic=-1\n";
    static constexpr const char *kGrubCfg = "/boot/grub/grub.cfg";
    Bytes log;

    Versions() {
        std::ifstream file(VTPM_GOLDEN "/log-grub-versions.bin", std::ios::binary);
        log.assign(std::istreambuf_iterator<char>(file), {});
        files = Golden().files;
        files["/boot/grub/grubenv"] = {{digest(texts["/boot/grub/grubenv"] = grubenv("")), {}}};
        has(kFormer, "/boot/vmlinuz", "/boot/initrd.img");
        configure(config(kFormer, "6.1.0-55-cloud-amd64"));
    }
    static constexpr const char *kFormer = "6.1.0-56-cloud-amd64";
    static constexpr const char *kNew = "6.1.0-57-cloud-amd64";

    static Bytes digest(const std::string &content) {
        return expect(launch::digests_of(bytes_of(content), {launch::Hash::kSha256})).at(launch::Hash::kSha256);
    }
    static std::string grubenv(const std::string &content) {
        std::string block = "# GRUB Environment Block\n" + content;
        block.resize(1024, '#');
        return block;
    }
    void configure(const std::string &text) {
        texts[kGrubCfg] = text;
        files[kGrubCfg] = {{digest(text), {}}};
    }
    // A kernel and its initrd, with the content of these.
    void has(const std::string &version, const char *kernel, const char *initrd) {
        files["/boot/vmlinuz-" + version] = files.at(kernel);
        files["/boot/initrd.img-" + version] = files.at(initrd);
    }
    void update() {
        Golden other;
        other.update_kernel();
        files["/new/vmlinuz"] = other.files.at("/boot/vmlinuz");
        files["/new/initrd.img"] = other.files.at("/boot/initrd.img");
        has(kNew, "/new/vmlinuz", "/new/initrd.img");
        configure(config(kNew, kFormer));
    }
    [[nodiscard]] NextBoot next() const { return expect(next_boot(log, pcrs("sha256:4,8,9"), std::nullopt, reader())); }
    static std::string entry(const std::string &version) {
        return "\tmenuentry 'Debian GNU/Linux, with Linux " + version + "' $menuentry_id_option 'gnulinux-" + version +
               "-advanced-1' {\n\t\tlinux\t/boot/vmlinuz-" + version + kRoot + "\t\tinitrd\t/boot/initrd.img-" +
               version + "\n\t}\n";
    }
    static std::string config(const std::string &first, const std::string &second) {
        return "if [ -s $prefix/grubenv ]; then\n  set have_grubenv=true\n  load_env\nfi\n"
               "if [ \"${next_entry}\" ] ; then\n   set default=\"${next_entry}\"\nelse\n   set default=\"0\"\nfi\n"
               "set timeout=0\nfunction gfxmode {\n\tset gfxpayload=\"${1}\"\n}\n"
               "menuentry 'Debian GNU/Linux' --class debian --class gnu-linux $menuentry_id_option "
               "'gnulinux-simple-1' {\n\tinsmod gzio\n\techo\t'Loading Linux " +
               first + " ...'\n\tlinux\t/boot/vmlinuz-" + first + kRoot +
               "\techo\t'Loading initial ramdisk ...'\n\tinitrd\t/boot/initrd.img-" + first +
               "\n}\nsubmenu 'Advanced options for Debian GNU/Linux' $menuentry_id_option 'gnulinux-advanced-1' {\n" +
               entry(first) + entry(second) +
               "}\nif [ -f  ${config_directory}/custom.cfg ]; then\n  source ${config_directory}/custom.cfg\nfi\n";
    }
};

}  // namespace

TEST_CASE_METHOD(Versions, "a kernel of another version is predicted with GRUB's commands, if nothing else changed") {
    REQUIRE(told(next()).empty());
    update();
    const NextBoot updated = next();
    REQUIRE(told(updated) == "4 8 9 ");
    // What the TPM had after the boot with it.
    REQUIRE(updated.values == PcrValues{{4, hex("9f719a3d931af91f5399aca8dd74216ce5435746d0f0ab0cb1fa857ecf3fd08c")},
                                        {8, hex("de3ce935842e5b4ee730ddb10ca9f5b23d9cc27149729130072e1e193a8332b7")},
                                        {9, hex("0f8950bee0599253d9a2057731d050e8f5bf2c4891a9e98328eab1565cdf90ef")}});
    REQUIRE(updated.why.at(8) == "changed: the kernel's version");
    REQUIRE(std::ranges::count(updated.events, std::string("grub_cmd: initrd /boot/initrd.img-") + kNew,
                               &BootEvent::text) == 1);

    files.erase(std::string("/boot/vmlinuz-") + kNew);
    REQUIRE(told(next()) == "8 4? 9? ");
}

TEST_CASE_METHOD(Versions, "a configuration in which more than a version changed is not guessed") {
    update();
    const std::string updated = texts[kGrubCfg];
    SECTION("another command") { configure(updated + "set timeout=5\n"); }
    SECTION("one more kernel") { configure(updated + entry("6.1.0-55-cloud-amd64")); }
    SECTION("a version that was there and is none of a kernel") { configure("# 6.1.0-55-cloud-amd64\n" + updated); }
    SECTION("another environment") {
        texts["/boot/grub/grubenv"] = grubenv("next_entry=1\n");
        files["/boot/grub/grubenv"] = {{digest(texts["/boot/grub/grubenv"]), {}}};
    }
    REQUIRE(told(next()) == "4? 8? 9? ");
}

TEST_CASE("a file that GRUB obeys, and that names a version, is in the way of another one") {
    const std::string former = "linux /vmlinuz-1 $more\n";
    const std::string next = "linux /vmlinuz-2 $more\n";
    const std::string variables = GENERATE("more=quiet", "more=of-1");
    LogWriter log;
    log.spec_id();
    const auto file = [&](const char *name, const std::string &content) {
        log.number(9, 4).number(kIpl, 4).number(1, 4).number(TPM2_ALG_SHA256, 2).raw(Versions::digest(content));
        log.number(std::string_view(name).size(), 4).text(name);
    };
    file("/grub.cfg", former);
    file("/grubenv", variables);
    const std::string command = "linux /vmlinuz-1 quiet";
    log.number(8, 4).number(kIpl, 4).number(1, 4).number(TPM2_ALG_SHA256, 2).raw(Versions::digest(command));
    log.number(command.size() + 10, 4).text("grub_cmd: ").text(command);
    Place place;
    place.texts = {{"/grub.cfg", next}, {"/grubenv", variables}};
    for (const auto &[name, content] : place.texts) place.files[name] = {{Versions::digest(content), {}}};
    const auto boot = expect(next_boot(log.bytes, pcrs("sha256:8,9"), std::nullopt, place.reader()));
    REQUIRE(told(boot) == (variables == "more=quiet" ? "8 9 " : "8? 9? "));
}

TEST_CASE_METHOD(Golden, "what the files do not tell of the next boot is said, and not guessed") {
    const FileDigests other{Bytes(32, 1), Bytes(32, 2)};
    const struct {
        const char *path;
        std::vector<FileDigests> found;
        const char *told;
        const char *why;
    } rows[] = {
        {"/boot/grub/grub.cfg", {other}, "4? 8? 9? ", "obeys (hd0,msdos1)/boot/grub/grub.cfg, which is another one"},
        {"/EFI/debian/grub.cfg", {}, "4? 8? 9? ", "(hd0,msdos1)/EFI/debian/grub.cfg is not on this host"},
        {"/boot/initrd.img", {}, "9? ", "/boot/initrd.img is not on this host"},
        {"/boot/initrd.img", {other, {Bytes(32, 3), {}}}, "9? ", "/boot/initrd.img is there more than once"},
        {"/boot/initrd.img", {other}, "9 ", ""},
        {"/boot/vmlinuz", {other}, "4 9 ", ""},
        {"/boot/vmlinuz", {{Bytes(32, 1), {}}}, "9 4? ", "something was started of which it is not told"},
        {"/boot/vmlinuz", {}, "4? 9? ", "something was started of which it is not told"},
        {"/EFI/BOOT/grubx64.efi", {other}, "4 ", ""},
        {"/EFI/BOOT/grubx64.efi", {}, "4? ", "\\EFI\\BOOT\\grubx64.efi is not on this host"},
        {"/EFI/BOOT/grubx64.efi", {{Bytes(32, 1), {}}}, "4? ", "\\EFI\\BOOT\\grubx64.efi is no PE image"},
        {"/EFI/BOOT/BOOTX64.EFI", {other}, "4 7? ", "SbatLevel"},
    };
    for (const auto &row : rows) {
        CAPTURE(row.path, row.found.size());
        Golden golden;
        golden.files[row.path] = row.found;
        const NextBoot next = golden.next();
        REQUIRE(told(next) == row.told);
        std::string reasons;
        for (const auto &[pcr, why] : next.unknown) reasons += why + "\n";
        REQUIRE_THAT(reasons, Contains(row.why));
        for (const auto &[pcr, value] : next.values)
            REQUIRE((next.why.at(pcr) != "as now" || value == values(kFirst).at(pcr)));
    }
}

TEST_CASE_METHOD(Golden, "another GRUB is taken to do as the former, and that is said") {
    files["/EFI/BOOT/grubx64.efi"] = {{Bytes(32, 1), Bytes(32, 2)}};
    REQUIRE_THAT(next().assumptions.at(2), Contains("the new GRUB runs, reads and starts"));
}

TEST_CASE_METHOD(Golden, "a revocation list that was updated is in PCR 7 from the next boot on") {
    const std::string dbx = "dbx-d719b2cb-3d3a-4596-a3bc-dad00e67656f";
    variables[dbx].push_back(0x55);
    const NextBoot updated = next();
    REQUIRE(told(updated) == "7 ");
    REQUIRE(updated.why.at(7) == "changed: dbx");
    LogWriter event;
    event.raw(hex("cbb219d73a3d9645a3bcdad00e67656f")).number(3, 8).number(variables[dbx].size(), 8);
    event.text(std::string_view("d\0b\0x\0", 6)).raw(variables[dbx]);
    const Bytes digest = expect(launch::digests_of(event.bytes, {launch::Hash::kSha256})).at(launch::Hash::kSha256);
    REQUIRE(std::ranges::count(updated.events, digest, &BootEvent::digest) == 1);
    variables.erase(dbx);
    REQUIRE(next().unknown.at(7) == "the firmware's variable dbx cannot be read");
}

TEST_CASE_METHOD(Golden, "a PCR that has more than the firmware logged is not known") {
    PcrValues present = values(kFirst);
    present[8] = Bytes(32, 1);
    const auto next = expect(next_boot(log, pcrs(kAll), present, reader()));
    REQUIRE(told(next) == "8? ");
    REQUIRE_THAT(next.unknown.at(8), Contains("more was measured"));
    REQUIRE(told(Golden::next("sha256:10,11,12,23")) == "10? 11? 23? ");
}

TEST_CASE("what was started without a name is told by the file that was read, if there is but one") {
    LogWriter log;
    log.spec_id();
    // shim before 16 logs what it starts by its own path.
    log.event(4, kApplication, 1, image("\\EFI\\debian\\shimx64.efi"));
    log.event(4, kApplication, 2, image("\\EFI\\debian\\shimx64.efi"));
    log.event(9, kIpl, 3, text("(memdisk)/grub.cfg"));
    log.event(9, kIpl, 4, text("(hd0,gpt2)/boot/grub/x86_64-efi/tpm.mod"));
    log.event(8, kIpl, 5, text("grub_cmd: linux /vmlinuz ro"))
        .event(9, kIpl, 6, text(std::string_view("/vmlinuz\0", 9)));
    log.event(8, kIpl, 5, text("grub_cmd: initrd /initrd")).event(9, kIpl, 7, text("/initrd"));
    log.event(4, kApplication, 8, Bytes(32)).event(4, kApplication, 8, Bytes(32));
    log.event(9, kTagged, 7, text("12345678Linux initrd"));
    Place place;
    place.files = {{"/EFI/debian/shimx64.efi", {{{}, Bytes(32, 1)}}},
                   {"/EFI/debian/grubx64.efi", {{{}, Bytes(32, 2)}}},
                   {"/boot/grub/x86_64-efi/tpm.mod", {{Bytes(32, 4), {}}}},
                   {"/vmlinuz", {{Bytes(32, 6), Bytes(32, 8)}}},
                   {"/initrd", {{Bytes(32, 7), {}}}}};
    const auto next = [&] { return expect(next_boot(log.bytes, pcrs("sha256:4,8,9"), std::nullopt, place.reader())); };
    REQUIRE(told(next()).empty());

    SECTION("the kernel, each time that it was measured") {
        place.files["/vmlinuz"] = {{Bytes(32, 0x16), Bytes(32, 0x18)}};
        REQUIRE(next().why.at(4) == "changed: /vmlinuz");
        REQUIRE(std::ranges::count(next().events, Bytes(32, 0x18), &BootEvent::digest) == 2);
    }
    SECTION("the initrd, which the kernel measures once more") {
        place.files["/initrd"] = {{Bytes(32, 0x17), {}}};
        REQUIRE(told(next()) == "9 ");
        REQUIRE(std::ranges::count(next().events, Bytes(32, 0x17), &BootEvent::digest) == 2);
    }
    SECTION("GRUB, which has a configuration in itself") {
        place.files["/EFI/debian/grubx64.efi"] = {{{}, Bytes(32, 0x12)}};
        REQUIRE(told(next()) == "4? 8? 9? ");
    }
    SECTION("a module of GRUB") {
        place.files["/boot/grub/x86_64-efi/tpm.mod"] = {{Bytes(32, 0x14), {}}};
        REQUIRE(told(next()) == "9 ");
        REQUIRE_THAT(next().assumptions.back(), Contains("the new GRUB"));
    }
}

// The stub starts the kernel that is in it, hands on its initrd, and measures its own sections.
TEST_CASE("what another UKI will measure of what is in it is not known, and that is said") {
    const std::string name = GENERATE("log-uki.bin", "log-uki-252.bin");
    CAPTURE(name);
    std::ifstream file(VTPM_GOLDEN "/" + name, std::ios::binary);
    const Bytes log{std::istreambuf_iterator<char>(file), {}};
    const PcrSelection selection = pcrs("sha256:4,5,9,11,12");
    Place place;
    std::string uki;
    const auto read = launch::read_tcg_log(log);
    for (const auto &event : read.value().events) {
        if (event.pcr != 4 || event.type != kApplication || !place.files.empty()) continue;
        uki = image_file(event.data);
        std::ranges::replace(uki, '\\', '/');
        const auto sha256 = std::ranges::find(event.digests, TPM2_ALG_SHA256, &launch::LogDigest::algorithm);
        REQUIRE(sha256 != event.digests.end());
        place.files[uki] = {{{}, {sha256->value.begin(), sha256->value.end()}}};
    }
    const PcrValues present = expect(replayed(expect(parse_event_log(log, selection)), selection));
    const auto next = [&] { return expect(next_boot(log, selection, present, place.reader())); };
    REQUIRE(told(next()).empty());
    REQUIRE(next().values == present);

    place.files[uki] = {{{}, Bytes(32, 1)}};
    REQUIRE(told(next()) == "4? 9? 11? ");
    REQUIRE_THAT(next().unknown.at(11), Contains("systemd-stub"));
    REQUIRE_THAT(next().assumptions.back(), Contains("(12, 13;"));
}

namespace {

// UCS-2, as systemd writes what it logs.
Bytes wide(std::string_view text) {
    Bytes bytes;
    for (const char c : text) bytes.insert(bytes.end(), {static_cast<std::uint8_t>(c), 0});
    bytes.insert(bytes.end(), {0, 0});
    return bytes;
}

// Its tag, the size, and the name of the file.
Bytes loader_conf_event() {
    Bytes event{0x2a, 0x58, 0xbc, 0xf5};
    const Bytes name = wide("loader.conf");
    event.insert(event.end(), {static_cast<std::uint8_t>(name.size()), 0, 0, 0});
    event.insert(event.end(), name.begin(), name.end());
    return event;
}

// systemd-boot, which starts a UKI.
struct SystemdBoot : Place {
    LogWriter log;

    explicit SystemdBoot(bool measures_conf = true) {
        files = {{"/EFI/systemd/systemd-bootx64.efi", {{{}, Bytes(32, 1)}}},
                 {"/EFI/Linux/debian.efi", {{{}, Bytes(32, 3)}}},
                 {"/loader/loader.conf", {{Bytes(32, 2), {}}}}};
        log.spec_id();
        log.event(5, kTagged, 9, text("12345678of the firmware"));
        log.event(4, kApplication, 1, image("\\EFI\\systemd\\systemd-bootx64.efi"));
        if (measures_conf) log.event(5, kTagged, 2, loader_conf_event());
    }
    [[nodiscard]] NextBoot next() const {
        return expect(next_boot(log.bytes, pcrs("sha256:4,5,8,9,11,12,13"), std::nullopt, reader()));
    }
};

}  // namespace

// 11 is of dom0 as well.
TEST_CASE("systemd-boot's loader.conf is known in PCR 5, and what systemd-boot starts by another one is not") {
    SystemdBoot host;
    host.log.event(4, kApplication, 3, image("\\EFI\\Linux\\debian.efi"));
    host.log.event(12, kIpl, 4, wide("quiet"));
    REQUIRE(told(host.next()) == "11? ");
    REQUIRE_THAT(host.next().assumptions.back(), Contains("(12, 13; before systemd 252: 4, 8)"));

    SECTION("another one") {
        host.files["/loader/loader.conf"] = {{Bytes(32, 0x12), {}}};
        REQUIRE(told(host.next()) == "5 4? 8? 9? 11? 12? 13? ");
        REQUIRE(host.next().why.at(5) == "changed: /loader/loader.conf");
        REQUIRE(std::ranges::count(host.next().events, Bytes(32, 0x12), &BootEvent::digest) == 1);
        REQUIRE_THAT(host.next().unknown.at(4), Contains("systemd-boot obeys /loader/loader.conf"));
    }
    SECTION("none") {
        host.files.erase("/loader/loader.conf");
        REQUIRE(told(host.next()) == "4? 5? 8? 9? 11? 12? 13? ");
    }
    SECTION("another systemd-boot") {
        host.files["/EFI/systemd/systemd-bootx64.efi"] = {{{}, Bytes(32, 0x11)}};
        REQUIRE(told(host.next()) == "4 11? 12? ");
    }
}

TEST_CASE("whether another systemd-boot measures a loader.conf that the former did not is not known") {
    SystemdBoot host(false);
    host.log.event(4, kApplication, 3, image("\\EFI\\Linux\\debian.efi"));
    REQUIRE(told(host.next()) == "11? ");
    host.files["/EFI/systemd/systemd-bootx64.efi"] = {{{}, Bytes(32, 0x11)}};
    REQUIRE(told(host.next()) == "4 5? 11? ");
    host.files.erase("/loader/loader.conf");
    REQUIRE(told(host.next()) == "4 11? ");
}

// Command lines in PCR 8, cpio archives in 4 and 8 (systemd 251); a GRUB that is there too has ASCII in 8.
TEST_CASE("what a systemd before 252 was given is in PCRs 4 and 8, and is not known of another image") {
    SystemdBoot host(false);
    host.files.erase("/loader/loader.conf");
    host.log.event(8, kIpl, 4, wide("quiet"));
    host.log.event(4, kApplication, 3, image("\\EFI\\Linux\\debian.efi"));
    SECTION("a command line only") {
        REQUIRE(told(host.next()) == "11? ");
        host.files["/EFI/Linux/debian.efi"] = {{{}, Bytes(32, 0x13)}};
        REQUIRE(told(host.next()) == "4 11? ");  // systemd-boot gave it, before the image was started
        host.files["/EFI/systemd/systemd-bootx64.efi"] = {{{}, Bytes(32, 0x11)}};
        REQUIRE(told(host.next()) == "4 8? 11? ");
    }
    SECTION("the stub's as well") {
        host.log.event(8, kIpl, 4, wide("quiet")).event(4, kIpl, 5, wide("System extension initrd"));
        REQUIRE(told(host.next()) == "11? ");
        REQUIRE_THAT(host.next().assumptions.back(), Contains("before systemd 252: 4, 8"));
        host.files["/EFI/Linux/debian.efi"] = {{{}, Bytes(32, 0x13)}};
        REQUIRE(told(host.next()) == "4? 8? 11? ");
    }
}

TEST_CASE("versions are found in the names of kernels, and change all at once") {
    using Names = std::vector<std::string>;
    REQUIRE(kernel_versions("").empty());
    REQUIRE(kernel_versions("vmlinuz vmlinuz- vmlinuz-/").empty());
    REQUIRE(kernel_versions("linux /boot/vmlinuz-6.1.0-56-amd64 ro\n'/vmlinuz-5' /vmlinuz-6.1.0-56-amd64") ==
            Names{"6.1.0-56-amd64", "5"});
    const Renaming renaming{{"6.1", "6.1.2", "5"}, {"6.2", "6.1", "6.1.2"}};
    REQUIRE(renaming.forward("a6.1.2 6.1 55 6.") == "a6.1 6.2 6.1.26.1.2 6.");
    REQUIRE(renaming.backward(renaming.forward("6.1.2 6.1 5")) == "6.1.2 6.1 5");
    REQUIRE(Renaming{}.forward("as it is") == "as it is");
}

TEST_CASE("a loader's path is looked for where a host mounts what it reads, and nowhere above") {
    const TemporaryDirectory root;
    const auto write = [&](const char *path, const Bytes &content) {
        std::filesystem::create_directories(std::filesystem::path(root / path).parent_path());
        std::ofstream(root / path, std::ios::binary)
            .write(reinterpret_cast<const char *>(content.data()), static_cast<std::streamsize>(content.size()));
    };
    const BootFiles files = files_of_host(root / "host", launch::Hash::kSha256);
    write("secret", Bytes(10, 1));
    write("host/boot/efi/EFI/debian/shimx64.efi", launch::test_kernel());
    write("host/boot/grub/grub.cfg", Bytes(10, 2));
    write("host/grub/grub.cfg", Bytes(10, 2));
    write("host/boot/twice", Bytes(10, 2));
    write("host/twice", Bytes(10, 3));
    write("host/large", Bytes(2'000'000, 3));
    write("host/sys/firmware/efi/efivars/dbx-1", Bytes{7, 0, 0, 0, 42});
    const auto shim = files.find("/EFI/debian/shimx64.efi");
    REQUIRE(shim.size() == 1);
    REQUIRE(shim[0].image.size() == 32);
    REQUIRE(shim[0].image != shim[0].content);
    REQUIRE(files.find("/grub/grub.cfg").size() == 1);
    REQUIRE(files.find("/grub/grub.cfg")[0].image.empty());
    REQUIRE(files.find("/twice").size() == 2);
    REQUIRE(files.find("/../secret").empty());
    REQUIRE(files.find("/boot").empty());
    REQUIRE(files.read("/twice") == std::vector{std::string(10, 3), std::string(10, 2)});
    REQUIRE(files.read("/../secret").empty());
    REQUIRE(files.read("/large").empty());
    REQUIRE(files.find("secret").empty());
    REQUIRE(files.variable("dbx-1") == Bytes{42});
    REQUIRE_FALSE(files.variable("../efivars/dbx-1"));
    REQUIRE_FALSE(files.variable("db-1"));
}

TEST_CASE_METHOD(Golden, "a prediction says which PCRs it has not, to programs and to people") {
    const TemporaryDirectory root;
    std::filesystem::copy_file(VTPM_GOLDEN "/log-grub.bin", root / "log");
    const MeasuredBoot boot = expect(predict_boot(pcrs("sha256:0,2,8"), {"", root / "log"}, root / "none"));
    REQUIRE(boot.pcrs.to_string() == "sha256:0,2");
    REQUIRE(boot.values.at(0) == hex(kBoth.at(0)));
    REQUIRE(boot.unknown.size() == 1);
    REQUIRE(expect(parse_measured_boot(to_json(boot))).unknown == boot.unknown);
    for (const char *what : {"sha256:8,9", "sha384:8,9"})
        REQUIRE_THAT(expect_error(predict_boot(pcrs(what), {"", root / "log"}, root / "none")).text,
                     Contains("can be predicted: PCR 8: "));
    REQUIRE_THAT(expect_error(predict_boot(pcrs("sha256:0"), {"", root / "none"}, "")).text, Contains("--event-log"));
}

}  // namespace vtpm::next_boot_test

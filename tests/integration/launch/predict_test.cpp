// SPDX-License-Identifier: Apache-2.0
// xen-vtpm launch predict, and what others make of it.
#include <nlohmann/json.hpp>
#include <sstream>

#include "files.hpp"
#include "launch/event_log.hpp"
#include "launch/pcrs.hpp"
#include "process.hpp"
#include "tests/unit/launch/hex.hpp"
#include "tests/unit/launch/pe_writer.hpp"
#include "tests/unit/manager/expect.hpp"
#include "tests/unit/manager/temporary_directory.hpp"

namespace vtpm::predict_test {
using namespace launch;
using nlohmann::json;

namespace {

struct Files {
    TemporaryDirectory directory;
    std::string kernel = written("vmlinuz", test_kernel());
    std::string initrd = written("initrd", Bytes(1000, 3));
    std::string uki = written("linux.efi", test_uki());

    [[nodiscard]] std::string written(const char *name, const Bytes &content) const {
        write_file(directory / name, content);
        return directory / name;
    }
    static Output predict(std::vector<std::string> options) {
        options.insert(options.begin(), {VTPM_CLI, "launch", "predict"});
        return run({std::move(options), {}, {}});
    }
    static json predicted(std::vector<std::string> options) {
        options.emplace_back("--json");
        const Output output = predict(std::move(options));
        CAPTURE(output.err);
        REQUIRE(output.status == 0);
        return json::parse(output.out);
    }
};

PcrBank values_of(const Bytes &image, std::optional<ByteView> initrd, std::string_view line, Hash bank) {
    const auto launch = expect(measure({image, initrd, line}, expect(read_boot_image(image)), {bank}));
    return expect(pcrs_after(expect(launch_events(launch)), bank));
}

}  // namespace

TEST_CASE_METHOD(Files, "a launch's PCRs are predicted from its files") {
    const json document = predicted({"--kernel", kernel, "--initrd", initrd, "--cmdline", "ro"});
    const Bytes content(1000, 3);
    const PcrBank values = values_of(test_kernel(), ByteView(content), "ro", Hash::kSha256);
    REQUIRE(document.at("pcrs") == "sha256:4,8,9,11,12");
    for (const unsigned pcr : {4U, 8U, 9U, 11U})
        REQUIRE(document.at("values").at(std::to_string(pcr)) == hex(values.at(pcr)));
    REQUIRE(document.at("values").at("12") == std::string(64, '0'));
    REQUIRE_THAT(document.at("tpm2_pcrs").get<std::string>(), Contains("4:sha256=" + hex(values.at(4)) + "+8:sha256="));
    REQUIRE(document.at("events").size() == 7);
    REQUIRE(document.at("unexplained").empty());
}

TEST_CASE_METHOD(Files, "a UKI's PCRs are predicted, in the bank that is asked for") {
    const json document = predicted({"--uki", uki, "--pcrs", "sha384:4,11"});
    const PcrBank values = values_of(test_uki(), std::nullopt, "", Hash::kSha384);
    REQUIRE(document.at("values").at("11") == hex(values.at(11)));
    REQUIRE(document == predicted({"--kernel", uki, "--pcrs", "sha384:4,11"}));
    REQUIRE(document.at("values").at("4") == hex(values.at(4)));
}

TEST_CASE_METHOD(Files, "tpm2-tools replay the log to the same values, and take these") {
    const std::string log = directory / "log";
    const std::string raw = directory / "raw";
    const json document = predicted(
        {"--uki", uki, "--cmdline", "single", "--pcrs", "sha256:2-9,11-14", "--event-log", log, "--raw", raw});
    const Output replay = run({{"tpm2_eventlog", log}, {}, {}});
    CAPTURE(replay.err);
    REQUIRE(replay.status == 0);
    REQUIRE_THAT(replay.out, Contains("Calling EFI Application from Boot Option"));
    const std::size_t sha256 = replay.out.rfind("  sha256:\n");
    REQUIRE(sha256 != std::string::npos);
    std::istringstream lines(replay.out.substr(sha256, replay.out.find("  sha384:\n", sha256) - sha256));
    std::size_t seen = 0;
    unsigned pcr = 0;
    std::string colon;
    std::string value;
    std::getline(lines, value);
    while (lines >> pcr >> colon >> value) {
        if (pcr < 2) continue;
        CAPTURE(pcr);
        REQUIRE(value == "0x" + document.at("values").at(std::to_string(pcr)).get<std::string>());
        ++seen;
    }
    REQUIRE(seen == 10);  // 2 to 9, 11, 12
    const Bytes values = read_file(raw);
    REQUIRE(values.size() == 12 * 32);
    REQUIRE(hex(ByteView(values).first(32)) == document.at("values").at("2"));
    REQUIRE(Files::predict({"--uki", uki, "--raw", raw}).status == 4);
}

TEST_CASE_METHOD(Files, "systemd-measure predicts the same of a UKI's sections") {
    std::vector<std::string> command{"/usr/lib/systemd/systemd-measure", "calculate", "--bank=sha256",
                                     "--phase=enter-initrd", "--json=short"};
    auto parts = uki_parts();
    std::erase_if(parts, [](const TestSection &section) {  // systemd 252 does not know them, or does not measure them
        return section.name == ".uname" || section.name == ".sbat" || section.name == ".pcrsig";
    });
    for (const TestSection &section : parts)
        if (section.name != ".text")
            command.push_back("--" + section.name.substr(1) + "=" + written(section.name.c_str(), section.content));
    const Output measured = run({command, {}, {}});
    CAPTURE(measured.err);
    REQUIRE(measured.status == 0);
    // systemd extends the phase's name as soon as the initrd begins.
    const std::string phase = "enter-initrd";
    const Bytes after_kernel =
        from_hex(predicted({"--uki", written("uki", pe_image(parts))}).at("values").at("11").get<std::string>());
    const Digests digest = expect(digests_of(bytes_of(phase), {Hash::kSha256}));
    const Bytes in_initrd = expect(extended(after_kernel, digest.at(Hash::kSha256), Hash::kSha256));
    REQUIRE(json::parse(measured.out).at("sha256").at(0).at("hash") == hex(in_initrd));
}

TEST_CASE_METHOD(Files, "what cannot be predicted is said, with what to do") {
    const auto error = [](std::vector<std::string> options, int status) {
        const Output output = Files::predict(std::move(options));
        CAPTURE(output.err);
        REQUIRE(output.status == status);
        return output.err;
    };
    REQUIRE_THAT(error({"--kernel", "/nonexistent"}, 3), Contains("/nonexistent cannot be read: No such file"));
    REQUIRE_THAT(error({"--kernel", kernel, "--pcrs", "sha256:0"}, 2), Contains("the host measures itself into it"));
    REQUIRE_THAT(error({"--kernel", kernel, "--pcrs", "sha256:10"}, 2), Contains("own system extends it"));
    REQUIRE_THAT(error({"--kernel", kernel, "--pcrs", ""}, 2), Contains("no PCR is chosen"));
    REQUIRE_THAT(error({"--uki", kernel}, 2), Contains("is not a UKI") && Contains("use --kernel"));
    REQUIRE_THAT(error({"--uki", uki, "--initrd", initrd}, 2), Contains("its own initrd"));
    REQUIRE_THAT(error({"--kernel", written("bad", test_text("MZ"))}, 2), Contains("/bad: the PE image is damaged"));
    REQUIRE(Files::predict({}).status == 2);
    REQUIRE(Files::predict({"--kernel", kernel, "--uki", uki}).status == 2);
}

}  // namespace vtpm::predict_test

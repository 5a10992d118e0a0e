// SPDX-License-Identifier: Apache-2.0
// Who is to have a tenant's TPM for a guest that his approver did not approve: by the store's rows, by documents of any
// kind, or in the moments between the record and the power-on.
#include "manager/store/database.hpp"
#include "tests/integration/host_pcrs/launched.hpp"

namespace vtpm::launch_test {
namespace {

struct Attacked : Approved {
    // While the manager does not run.
    void change_store(const std::string &sql) {
        manager->end(SIGTERM);
        expect(expect(Database::open(place.state_directory() + "/store.db")).script(sql.c_str()));
        manager.emplace(place);
        REQUIRE(host->run_until([&] { return host->client->connected(); }));
    }
    void fails(const std::vector<std::string> &arguments, const std::string &why = {}) {
        const Output done = xen_vtpm(arguments);
        CAPTURE(arguments, done.out);
        REQUIRE(done.status != 0);
        REQUIRE(done.err.size() < 600);
        REQUIRE_THAT(done.err, Contains(why));
    }
    [[nodiscard]] std::string content(const std::string &path) const {
        std::ifstream file(path, std::ios::binary);
        return {std::istreambuf_iterator<char>(file), {}};
    }
    static std::string sql_text(const std::string &text) {
        std::string quoted = "'";
        for (const char c : text) quoted += c == '\'' ? std::string("''") : std::string(1, c);
        return quoted + "'";
    }
};

}  // namespace

TEST_CASE_METHOD(Attacked, "require-approved: rows that were changed while the manager was away approve nothing") {
    must({"group", "seal", "tenant", "--tpm-only"});
    const std::string good = content(signed_by(approver, {}, "ro"));
    const std::string next = content(signed_by(approver, {"--generation", "2"}, "evil"));
    const std::string others = content(signed_by(key("mine"), {}, "evil"));
    for (const std::string &document :
         {next, others, others.substr(0, 500), std::string(1'000'000, '['), std::string()}) {
        change_store("UPDATE launch_approvals SET document = " + sql_text(document));
        refuses("evil", "none is installed for it");
    }
    change_store("UPDATE launch_approvals SET document = " + sql_text(good));
    starts("ro");
}

TEST_CASE_METHOD(Attacked,
                 "require-approved: a row that was changed frees no vTPM, also if the store is taken as it is") {
    must({"group", "seal", "tenant", "--tpm-only"});
    starts("ro");
    change_store("UPDATE vtpms SET launch = 'off', launch_approver = x'', launch_binding = x''");
    refuses("evil", "rows were put back, changed or removed");
    must({"group", "accept-rollback", "tenant"});
    REQUIRE_THAT(must({"show", id}), Contains("launch        off"));
    refuses("evil", "it is bound to launches that an approver signs, and its row says something else");
    fails({"launch", "set", id, "measure"});
    fails({"export", id, file("backup")});
    fails({"group", "rekey", "tenant"});
}

TEST_CASE_METHOD(Attacked, "approvals and releases that are no good documents are refused in a few words") {
    const std::string good = content(signed_by(approver, {}, "evil"));
    const auto with = [&](const std::string &field, const std::string &value) {
        auto document = nlohmann::ordered_json::parse(good);
        document[field] = nullptr;
        std::string text = document.dump();
        const std::string null = "\"" + field + "\":null";
        return text.replace(text.find(null), null.size(), "\"" + field + "\":" + value);
    };
    const nlohmann::json launch = nlohmann::json::parse(good).at("launches").at(0);
    const std::string nested = std::string(30'000, '[') + std::string(30'000, ']');
    for (const std::string &document : {std::string(),
                                        std::string("{"),
                                        std::string(70'000, ' '),
                                        nested,
                                        std::string(60'000, '{'),
                                        good + good,

                                        with("group", "\"\xff\""),
                                        with("group", "\"tenant\\u0000\""),
                                        with("group", "[\"tenant\"]"),
                                        with("group", "\"tenant\",\"group\":\"other\""),
                                        with("generation", "4294967297"),
                                        with("generation", "1e400"),
                                        with("generation", "1.0"),
                                        with("generation", "-1"),
                                        with("generation", "0"),
                                        with("launches", "[]"),
                                        with("launches", nlohmann::json(65, launch).dump()),
                                        with("launches", nested),
                                        with("vtpms", "[\"" + id + "\",\"" + id + "\"]"),
                                        with("vtpms", "\"" + id + "\""),
                                        with("signature", "\"\""),
                                        with("signature", "\"AAAA\""),
                                        with("approver", "\"SHA256:" + std::string(64, '0') + "\"")}) {
        const std::string path = write("hostile", document);
        fails({"launch", "install", path});
        fails({"launch", "set", id, "off", "--release", path});
    }
    refuses("evil", "its command line");
}

TEST_CASE_METHOD(Attacked, "require-approved: a release is for one vTPM") {
    const std::string other = Uuid::random().to_string();
    must({"create", other, "--group", "tenant", "--launch", "require-approved"});
    const auto shown = nlohmann::json::parse(must({"--json", "show", other}));
    const std::string theirs = shown.at("launch_binding");
    const std::string mine = nlohmann::json::parse(must({"--json", "show", id})).at("launch_binding");
    for (const auto &[vtpm, binding] : {std::pair(other, theirs), {id, theirs}, {other, mine}}) {
        const std::string release =
            write("release", must({"launch", "release", "--key", approver, "--binding", binding, vtpm}));
        fails({"launch", "set", id, "off", "--release", release},
              vtpm == id ? "is for its binding" : "is not for vTPM");
    }
    refuses("evil", "its command line");
}

TEST_CASE_METHOD(Attacked, "require-approved: what is recorded at the last moment is judged too") {
    expect(record(log_of("ro")));
    REQUIRE(host->is_offered(device, uuid, ring));
    expect(record(log_of("evil")));
    host->frontend_initialised(device);
    REQUIRE(host->reaches(device, "5"));
    REQUIRE_THAT(host->reason(device), Contains("its command line"));
    host->remove(device);
    host->run_for(std::chrono::milliseconds(50));

    // A record is not for the domain that has the number next, nor made any more when that runs.
    expect(record(log_of("ro")));
    host->domains.facts(7).incarnation.domain = Uuid::random();
    host->attach(device, uuid);
    REQUIRE(host->reaches(device, "none"));
    REQUIRE_THAT(host->reason(device), Contains("nobody measured"));
    host->remove(device);
    host->run_for(std::chrono::milliseconds(50));
    runs();
    REQUIRE(expect_error(record(log_of("ro"))).code == ErrorCode::kRefused);
    host->attach(device, uuid);
    REQUIRE(host->reaches(device, "none"));
    REQUIRE_THAT(host->reason(device), Contains("nobody measured"));
}

}  // namespace vtpm::launch_test

// SPDX-License-Identifier: Apache-2.0
#include "manager/store/database.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/legible.hpp"
#include "base/log.hpp"
#include "base/unique_fd.hpp"

namespace vtpm {
namespace {

// Somebody looks at the store with sqlite3(1): he will be done soon.
constexpr int kBusyMilliseconds = 2000;

tl::unexpected<Error> sqlite_failure(sqlite3 *connection) {
    const int code = sqlite3_errcode(connection) & 0xff;  // without the extension
    const char *const path = sqlite3_db_filename(connection, "main");
    const bool damaged = code == SQLITE_CORRUPT || code == SQLITE_NOTADB;
    const char *const remedy = damaged               ? ": restore the store from a backup"
                               : code == SQLITE_FULL ? ": make room on its file system"
                                                     : "";
    const std::string what = sqlite3_errmsg(connection);
    const std::string kind = sqlite3_errstr(sqlite3_extended_errcode(connection));
    return fail(damaged ? ErrorCode::kRefused : ErrorCode::kStoreFailed, "store: {}: {}{}{}",
                path == nullptr ? "" : path, what, what == kind ? "" : fmt::format(" ({})", kind), remedy);
}

}  // namespace

// An empty view may have no address, which SQLite would take for NULL.
void Statement::bind(int index, std::string_view value) {
    const char *data = value.empty() ? "" : value.data();
    sqlite3_bind_text64(statement_.get(), index, data, value.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
}

void Statement::bind(int index, ByteView value) {
    const void *data = value.empty() ? static_cast<const void *>("") : value.data();
    sqlite3_bind_blob64(statement_.get(), index, data, value.size(), SQLITE_TRANSIENT);
}

Result<bool> Statement::step() {
    const int code = sqlite3_step(statement_.get());
    if (code == SQLITE_ROW) return true;
    if (code == SQLITE_DONE) return false;
    return sqlite_failure(sqlite3_db_handle(statement_.get()));
}

Result<> Statement::run() {
    auto stepped = step();
    sqlite3_reset(statement_.get());
    if (!stepped) return tl::make_unexpected(std::move(stepped).error());
    return {};
}

std::string Statement::text(int column) const { return legible(document(column)); }

std::string Statement::document(int column) const {
    // The pointer must be asked for before the size (sqlite3_column_blob(3)). SQLite's text is unsigned char.
    const auto *data = reinterpret_cast<const char *>(sqlite3_column_text(statement_.get(), column));
    const auto size = static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column));
    return data == nullptr ? std::string() : std::string(data, size);
}

Bytes Statement::blob(int column) const {
    const auto *data = static_cast<const std::uint8_t *>(sqlite3_column_blob(statement_.get(), column));
    const auto size = static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column));
    return data == nullptr ? Bytes() : Bytes(data, data + size);
}

Result<Database> Database::open(const std::string &path, const char *vfs) {
    sqlite3 *connection = nullptr;
    const int code =
        sqlite3_open_v2(path.c_str(), &connection,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, vfs);
    Database database(connection);
    if (code != SQLITE_OK) return fail(ErrorCode::kStoreFailed, "store: {}: {}", path, sqlite3_errstr(code));
    sqlite3_busy_timeout(connection, kBusyMilliseconds);
    return database;
}

Result<Statement> Database::prepare_only(std::string_view sql) {
    if (const auto idle = idle_->find(sql); idle != idle_->end())
        return Statement(std::move(idle_->extract(idle).mapped()), idle_);
    sqlite3_stmt *statement = nullptr;
    if (sqlite3_prepare_v3(raw(), sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT, &statement,
                           nullptr) != SQLITE_OK)
        return sqlite_failure(raw());
    return Statement(Statement::Prepared(statement), idle_);
}

void Statement::PutBack::operator()(sqlite3_stmt *statement) const {
    Prepared prepared(statement);
    if (idle.use_count() == 1) return;  // the database is closed
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    idle->try_emplace(sqlite3_sql(statement), std::move(prepared));
}

Result<> Database::script(const char *sql) {
    if (sqlite3_exec(raw(), sql, nullptr, nullptr, nullptr) != SQLITE_OK) return sqlite_failure(raw());
    return {};
}

Result<> require_readable(const std::string &path) {
    constexpr std::size_t kPart = 1024UL * 1024;
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) return fail_errno("store: {}", path);
    (void)::posix_fadvise(file.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
    Bytes part(kPart);
    for (;;) {
        const ssize_t size = ::read(file.get(), part.data(), part.size());
        if (size == 0) return {};
        if (size < 0 && errno != EINTR)
            return fail(ErrorCode::kStoreFailed, "store: {} cannot be read: {}: restore it from a backup", path,
                        std::strerror(errno));
    }
}

// By one connection, and not by two of which one reads: the store's lock is exclusive.
Result<> Database::copy_to(const std::string &path, const std::function<void()> &between) {
    constexpr int kStep = 64;  // pages, of 4 KiB
    const auto copied = [&]() -> Result<> {
        VTPM_ASSIGN(Database copy, open(path));
        sqlite3_backup *const backup = sqlite3_backup_init(copy.raw(), "main", raw(), "main");
        if (backup == nullptr) return sqlite_failure(copy.raw());
        while (sqlite3_backup_step(backup, kStep) == SQLITE_OK) between();
        if (const int code = sqlite3_backup_finish(backup); code != SQLITE_OK)
            return fail(ErrorCode::kStoreFailed, "store: a copy in {}: {}", path, sqlite3_errstr(code));
        return {};
    }();
    if (!copied)
        for (const char *const suffix : {"", "-journal", "-wal"}) (void)::unlink((path + suffix).c_str());
    return copied;
}

Result<std::int64_t> Database::integer(std::string_view sql) {
    VTPM_ASSIGN(Statement statement, prepare(sql));
    VTPM_TRY(statement.step());
    return statement.integer(0);
}

void Database::wipe_log() {
    if (const auto wiped = script("PRAGMA wal_checkpoint(TRUNCATE)"); !wiped)
        log::warning("what was removed is in the store's log until the next checkpoint: {}", wiped.error().text);
}

Result<Transaction> Transaction::begin(Database &database) {
    VTPM_TRY(database.execute("BEGIN IMMEDIATE"));
    return Transaction(&database);
}

Transaction::~Transaction() {
    // After some errors SQLite has rolled back already.
    if (database_ != nullptr && sqlite3_get_autocommit(database_->raw()) == 0) (void)database_->execute("ROLLBACK");
}

Result<> Transaction::commit() {
    VTPM_TRY(database_->execute("COMMIT"));
    database_ = nullptr;
    return {};
}

}  // namespace vtpm

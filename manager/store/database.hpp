// SPDX-License-Identifier: Apache-2.0
// Thin RAII over SQLite: one connection, prepared statements, transactions that roll back unless committed.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/bytes.hpp"
#include "base/result.hpp"

namespace vtpm {

class Statement {
public:
    // True: there is a row. kStoreFailed: the file system would not; kRefused: the database is damaged.
    Result<bool> step();
    // For a statement without rows: runs it, and makes it ready for the next binding.
    Result<> run();
    // The same with `values` in place of its `?`: integers, texts, blobs.
    template <typename... Values>
    Result<> run_with(const Values &...values) {
        bind_all(values...);
        return run();
    }
    template <typename... Values>
    void bind_all(const Values &...values) {
        int index = 0;
        (bind(++index, values), ...);
    }

    void bind(int index, std::int64_t value) { sqlite3_bind_int64(statement_.get(), index, value); }
    void bind(int index, std::string_view value);
    void bind(int index, ByteView value);

    [[nodiscard]] std::int64_t integer(int column) const { return sqlite3_column_int64(statement_.get(), column); }
    // A name, or words: legible. Who had the disk may have written what a terminal obeys.
    [[nodiscard]] std::string text(int column) const;
    // As it is.
    [[nodiscard]] std::string document(int column) const;
    [[nodiscard]] Bytes blob(int column) const;

private:
    friend class Database;
    struct Finalize {
        void operator()(sqlite3_stmt *statement) const { sqlite3_finalize(statement); }
    };
    using Prepared = std::unique_ptr<sqlite3_stmt, Finalize>;
    // Those that nobody uses, by their text: a commit needs seven, and to parse them takes longer than to run them.
    using Idle = std::map<std::string, Prepared, std::less<>>;
    // For the next one that has this text. Its values are forgotten.
    struct PutBack {
        void operator()(sqlite3_stmt *statement) const;
        std::shared_ptr<Idle> idle;
    };

    Statement(Prepared statement, std::shared_ptr<Idle> idle)
        : statement_(statement.release(), PutBack{std::move(idle)}) {}
    std::unique_ptr<sqlite3_stmt, PutBack> statement_;
};

class Database {
public:
    // Creates an empty file if there is none. `vfs` is for tests that make the file system fail.
    static Result<Database> open(const std::string &path, const char *vfs = nullptr);

    // `?` in `sql` stand for `values`: integers, texts, blobs.
    template <typename... Values>
    Result<Statement> prepare(std::string_view sql, const Values &...values) {
        VTPM_ASSIGN(Statement statement, prepare_only(sql));
        statement.bind_all(values...);
        return statement;
    }
    template <typename... Values>
    Result<> execute(std::string_view sql, const Values &...values) {
        VTPM_ASSIGN(Statement statement, prepare(sql, values...));
        return statement.run();
    }
    // Several statements without values or rows.
    Result<> script(const char *sql);
    // All that is committed, in a new file at `path`. `between` its steps others may write through this connection:
    // what they do is in the copy. A failure leaves no file.
    Result<> copy_to(const std::string &path, const std::function<void()> &between);
    // The only value of the only row, as PRAGMA gives it.
    Result<std::int64_t> integer(std::string_view sql);
    // What was removed is to be gone from SQLite's log as well (secure_delete wipes the database's pages only). A
    // failure leaves it there until the next checkpoint, and is logged. No statement may be half done.
    void wipe_log();
    // While it lives the file is mapped: all of it is read several times as fast.
    class Mapped {
    public:
        explicit Mapped(Database &database) : database_(database) { set("PRAGMA mmap_size = 1099511627776"); }
        Mapped(const Mapped &) = delete;
        Mapped &operator=(const Mapped &) = delete;
        ~Mapped() { set("PRAGMA mmap_size = 0"); }

    private:
        void set(const char *pragma) { (void)database_.script(pragma); }  // without it, it is read as ever
        Database &database_;
    };
    [[nodiscard]] int changes() const { return sqlite3_changes(connection_.get()); }
    [[nodiscard]] sqlite3 *raw() { return connection_.get(); }

private:
    struct Close {
        void operator()(sqlite3 *connection) const { sqlite3_close_v2(connection); }
    };
    explicit Database(sqlite3 *connection) : connection_(connection) {}
    Result<Statement> prepare_only(std::string_view sql);
    std::unique_ptr<sqlite3, Close> connection_;
    std::shared_ptr<Statement::Idle> idle_ = std::make_shared<Statement::Idle>();
};

// All of the file, as it lies there. Before it is mapped: a page that cannot be read ends who has it mapped.
Result<> require_readable(const std::string &path);

// All or nothing: what is not committed is undone.
class Transaction {
public:
    static Result<Transaction> begin(Database &database);
    Transaction(Transaction &&other) noexcept : database_(std::exchange(other.database_, nullptr)) {}
    Transaction &operator=(Transaction &&) = delete;
    Transaction(const Transaction &) = delete;
    Transaction &operator=(const Transaction &) = delete;
    ~Transaction();
    // Returns when the changes are durable.
    Result<> commit();

private:
    explicit Transaction(Database *database) : database_(database) {}
    Database *database_;  // null: committed
};

}  // namespace vtpm

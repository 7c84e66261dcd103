import java.io.StringReader;
import java.io.StringWriter;
import java.sql.*;
import java.util.Properties;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;

/** What applications do through PgJDBC, told line by line: `java Jdbc URL USER PASSWORD`. The lines must not depend on
 * whether the server is PostgreSQL itself or a pgpool before it. */
public class Jdbc {
    static void say(Object... words) {
        StringBuilder line = new StringBuilder();
        for (Object word : words) line.append(word).append(' ');
        System.out.println(line.toString().trim());
    }

    static String one(Connection c, String sql) throws SQLException {
        try (Statement s = c.createStatement(); ResultSet r = s.executeQuery(sql)) {
            r.next();
            return r.getString(1);
        }
    }

    interface Part { void run() throws Exception; }

    static void part(String name, Part body) {
        try {
            body.run();
            say(name, "done");
        } catch (SQLException e) {
            say(name, "failed", e.getSQLState(), e.getMessage().split("\n")[0]);
        } catch (Exception e) {
            say(name, "failed", e);
        }
    }

    public static void main(String[] args) throws Exception {
        Properties p = new Properties();
        p.setProperty("user", args[1]);
        p.setProperty("password", args[2]);
        try (Connection c = DriverManager.getConnection(args[0], p)) {
            say("user", one(c, "SELECT current_user"), one(c, "SHOW server_encoding"));
            part("table", () -> {
                try (Statement s = c.createStatement()) {
                    s.execute("CREATE TEMP TABLE t (id serial PRIMARY KEY, n int, x text)");
                }
            });
            part("prepared", () -> prepared(c));
            part("batch", () -> batch(c));
            part("transaction", () -> transaction(c));
            part("cursor", () -> cursor(c));
            part("copy", () -> copy(c));
            part("notify", () -> notifications(c));
            part("cancel", () -> cancelled(c));
            part("meta", () -> {
                try (ResultSet r = c.getMetaData().getColumns(null, null, "t", null)) {
                    while (r.next()) say("column", r.getString("COLUMN_NAME"), r.getString("TYPE_NAME"));
                }
            });
            part("large", () -> say("length", one(c, "SELECT repeat('x', 3000000)").length()));
            part("two in one", () -> {
                try (Statement s = c.createStatement()) {
                    boolean rows = s.execute("SELECT 1; SELECT 2");
                    say(rows, s.getMoreResults());
                }
            });
            part("discard", () -> {
                try (Statement s = c.createStatement()) {
                    s.execute("DISCARD ALL");
                }
                say(one(c, "SELECT 'alive'"));
            });
        }
    }

    /** Ten times: from the fifth on as a named statement of the server. */
    static void prepared(Connection c) throws SQLException {
        try (PreparedStatement s = c.prepareStatement("SELECT ?::int + 1, ?::text")) {
            for (int i = 0; i < 10; i++) {
                s.setInt(1, i);
                s.setString(2, i % 2 == 0 ? null : "ä" + i);
                try (ResultSet r = s.executeQuery()) {
                    r.next();
                    say(r.getInt(1), r.getString(2));
                }
            }
        }
    }

    static void batch(Connection c) throws SQLException {
        try (PreparedStatement s = c.prepareStatement("INSERT INTO t (n, x) VALUES (?, ?)", Statement.RETURN_GENERATED_KEYS)) {
            for (int i = 0; i < 300; i++) {
                s.setInt(1, i);
                s.setString(2, "x" + i);
                s.addBatch();
            }
            int total = 0;
            for (int n : s.executeBatch()) total += n;
            ResultSet keys = s.getGeneratedKeys();
            int count = 0;
            while (keys.next()) count++;
            say(total, count, one(c, "SELECT sum(n) FROM t"));
        }
    }

    static void transaction(Connection c) throws SQLException {
        c.setAutoCommit(false);
        try (Statement s = c.createStatement()) {
            s.executeUpdate("UPDATE t SET n = n + 1 WHERE n < 10");
            Savepoint here = c.setSavepoint();
            try {
                s.execute("SELECT 1 / 0");
            } catch (SQLException e) {
                say(e.getSQLState());
            }
            c.rollback(here);
            say(one(c, "SELECT count(*) FROM t WHERE n <= 10"));
            c.rollback();
            say(one(c, "SELECT count(*) FROM t WHERE n < 10"));
            c.commit();
        }
        c.setReadOnly(true);
        say(one(c, "SHOW transaction_read_only"));
        c.commit();
        c.setReadOnly(false);
        c.setAutoCommit(true);
    }

    /** Rows in portions: PortalSuspended, and Execute again. */
    static void cursor(Connection c) throws SQLException {
        c.setAutoCommit(false);
        try (Statement s = c.createStatement()) {
            s.setFetchSize(7);
            long sum = 0;
            try (ResultSet r = s.executeQuery("SELECT generate_series(1, 1000)")) {
                while (r.next()) sum += r.getInt(1);
            }
            say(sum);
        }
        c.commit();
        c.setAutoCommit(true);
    }

    static void copy(Connection c) throws Exception {
        CopyManager copies = c.unwrap(PGConnection.class).getCopyAPI();
        say(copies.copyIn("COPY t (n, x) FROM STDIN", new StringReader("7777\tfirst\n7777\tsecond\n")));
        StringWriter out = new StringWriter();
        say(copies.copyOut("COPY (SELECT x FROM t WHERE n = 7777 ORDER BY id) TO STDOUT", out), out.toString().replace('\n', '|'));
    }

    static void notifications(Connection c) throws SQLException {
        try (Statement s = c.createStatement()) {
            s.execute("LISTEN jdbc");
            s.execute("NOTIFY jdbc, 'hello'");
        }
        var heard = c.unwrap(PGConnection.class).getNotifications(5000);
        say(heard.length, heard[0].getName(), heard[0].getParameter());
    }

    static void cancelled(Connection c) throws SQLException {
        try (Statement s = c.createStatement()) {
            s.setQueryTimeout(1);
            s.execute("SELECT pg_sleep(20)");
        } finally {
            say(one(c, "SELECT 'alive'"));
        }
    }
}

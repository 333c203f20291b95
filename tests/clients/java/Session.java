import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.AsyncCallback;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.Transaction;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.Stat;

/**
 * A program on the Java client: every kind of node and of watch, transactions, ephemerals, a session taken over. Usage:
 * Session HOST:PORT
 *
 * <p>It prints only what two right servers must answer alike, for a comparison with expected.txt.
 */
public class Session {
    private static final int TIMEOUT_MS = 10_000;
    private static final int BURST = 500;

    private final String address;
    private final BlockingQueue<String> events = new LinkedBlockingQueue<>();

    public static void main(String[] arguments) throws Exception {
        new Session(arguments[0]).run();
    }

    private Session(String address) {
        this.address = address;
    }

    private void run() throws Exception {
        try (ZooKeeper zk = connect()) {
            nodes(zk);
            everyMode(zk);
            transactions(zk);
            reads(zk);
            everyWatch(zk);
            watches(zk);
            locks(zk);
            burst(zk);
            sessions(zk);
        }
        say("closed");
    }

    private void nodes(ZooKeeper zk) throws Exception {
        say("create", zk.create("/j", bytes("one"), ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        Stat created = new Stat();
        zk.create("/j/two", bytes("2"), ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, created);
        say("stat of create is that of exists", created.equals(zk.exists("/j/two", false)));
        say("ttl", zk.create("/j/ttl", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_WITH_TTL, created, 60_000));
        say("container", zk.create("/j/box", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.CONTAINER));
        say("null data", zk.getData("/j/box", false, null) == null);
        say("empty data", zk.setData("/j/box", new byte[0], 0).getDataLength());
        refused("exists", () -> zk.create("/j", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        refused("no parent", () -> zk.create("/x/y", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        refused("bad version", () -> zk.setData("/j", bytes("x"), 4));
        refused("not empty", () -> zk.delete("/j", -1));
        refused("nobody", () -> zk.getChildren("/nobody", false));
        refused("no acl", () -> zk.create("/j/acl", null, Collections.emptyList(), CreateMode.PERSISTENT));
        byte[] large = new byte[1_000_000];
        say("a megabyte", zk.setData("/j/two", large, -1).getDataLength());
        say("comes back", zk.getData("/j/two", false, null).length);
        say("all children", zk.getAllChildrenNumber("/j"));
        List<String> who = new ArrayList<>();
        zk.whoAmI().forEach(info -> who.add(info.getAuthScheme()));
        say("who am I", who);
        zk.addAuthInfo("digest", bytes("user:pass"));
        who.clear();
        zk.whoAmI().forEach(info -> who.add(info.getAuthScheme() + " " + info.getUser()));
        Collections.sort(who);
        say("and now", who);
    }

    /** Each alone, in a transaction and asynchronously. */
    private void everyMode(ZooKeeper zk) throws Exception {
        zk.create("/modes", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        for (CreateMode mode : CreateMode.values()) {
            String name = "/modes/" + mode + "-";
            List<String> made = new ArrayList<>();
            Stat stat = new Stat();
            made.add(mode.isTTL()
                ? zk.create(name + "1-", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, mode, stat, 60_000)
                : zk.create(name + "1-", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, mode, stat));
            Op op = mode.isTTL()
                ? Op.create(name + "2-", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, mode, 70_000)
                : Op.create(name + "2-", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, mode);
            OpResult result = zk.multi(List.of(op, Op.check("/modes", -1))).get(0);
            made.add(((OpResult.CreateResult) result).getPath());
            CountDownLatch answered = new CountDownLatch(1);
            AsyncCallback.Create2Callback callback = (code, path, context, madeName, madeStat) -> {
                made.add(code == 0 ? madeName : KeeperException.Code.get(code).name());
                answered.countDown();
            };
            if (mode.isTTL()) {
                zk.create(name + "3-", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, mode, callback, null, 80_000);
            } else {
                zk.create(name + "3-", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, mode, callback, null);
            }
            answered.await(TIMEOUT_MS, TimeUnit.MILLISECONDS);
            List<String> owners = new ArrayList<>();
            for (String path : made) {
                owners.add(owner(zk, zk.exists(path, false).getEphemeralOwner()));
            }
            say(mode + " " + made, owners);
            say("stat of create is that of exists", stat.equals(zk.exists(made.get(0), false)));
            String below = made.get(0) + "/x";
            refused("a child", () -> zk.create(below, null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        }
        Stat parent = zk.exists("/modes", false);
        say("so many children", parent.getNumChildren() + " " + parent.getCversion());
    }

    private static String owner(ZooKeeper zk, long owner) {
        if (owner == zk.getSessionId()) {
            return "mine";
        }
        return Long.toString(owner); // of containers and of what has a time to live, clients see none
    }

    /** Who hears of what, once or again and again; and what is told of watches that are taken away. */
    private void everyWatch(ZooKeeper zk) throws Exception {
        for (String path : List.of("/w", "/w/data", "/w/kids")) {
            zk.create(path, null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        }
        Watcher data = named("data");
        Watcher exist = named("exist");
        Watcher child = named("child");
        Watcher stays = named("stays");
        Watcher deep = named("deep");
        zk.getData("/w/data", data, null);
        zk.exists("/w/data", exist);
        zk.exists("/w/soon", exist);
        zk.getChildren("/w", child);
        zk.getChildren("/w/kids", child, new Stat());
        zk.addWatch("/w", stays, AddWatchMode.PERSISTENT);
        zk.addWatch("/w", deep, AddWatchMode.PERSISTENT_RECURSIVE);
        zk.setData("/w/data", null, -1);
        say("data changes", told(3));
        zk.setData("/w/data", null, -1);
        say("and again", told(1));
        zk.create("/w/soon", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        say("a node comes", told(4));
        zk.create("/w/kids/one", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        say("a grandchild", told(2));
        zk.exists("/w/kids/one", data);
        zk.getChildren("/w/kids", child);
        zk.delete("/w/kids/one", -1);
        say("goes", told(3));
        zk.setACL("/w", ZooDefs.Ids.OPEN_ACL_UNSAFE, -1);
        zk.setData("/w", null, -1);
        say("permissions are not heard of", told(2));
        zk.getData("/w/kids", exist, null);
        zk.getChildren("/w/kids", child);
        zk.delete("/w/kids", -1);
        say("both kinds of one node that goes", told(4));
        zk.removeAllWatches("/w", Watcher.WatcherType.Any, false);
        say("without any", told(2));
        for (Watcher.WatcherType type : Watcher.WatcherType.values()) {
            zk.getData("/w", data, null);
            zk.getChildren("/w", child);
            zk.addWatch("/w", stays, AddWatchMode.PERSISTENT);
            zk.addWatch("/w", deep, AddWatchMode.PERSISTENT_RECURSIVE);
            Watcher one = switch (type) {
                case Children -> child;
                case Data, Any -> data;
                case Persistent -> stays;
                case PersistentRecursive -> deep;
            };
            zk.removeWatches("/w", one, type, false);
            say("without " + type, told(1));
            refused("again", () -> zk.removeWatches("/w", one, type, false));
        }
        zk.removeAllWatches("/w", Watcher.WatcherType.Any, false);
        say("without the rest", told(3));
        zk.register(event -> {
            if (event.getPath() != null) {
                events.add("default " + event.getType() + " " + event.getPath());
            }
        });
        events.clear();
        zk.exists("/w", true);
        zk.setData("/w", null, -1);
        say("by default", told(1));
    }

    private Watcher named(String name) {
        return event -> {
            if (event.getPath() != null) {
                events.add(name + " " + event.getType() + " " + event.getPath());
            }
        };
    }

    /** The next so many, in an order of our own: the client has its watchers in none. */
    private List<String> told(int count) throws InterruptedException {
        List<String> told = nextEvents(count);
        told.sort(java.util.Comparator.nullsLast(java.util.Comparator.naturalOrder()));
        return told;
    }

    private void transactions(ZooKeeper zk) throws Exception {
        Transaction good = zk.transaction();
        good.create("/m", bytes("x"), ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        good.create("/m/e", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        good.create("/m/s-", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT_SEQUENTIAL);
        good.setData("/m", bytes("xx"), 0);
        good.check("/m", 1);
        good.delete("/m/e", 0);
        StringBuilder kinds = new StringBuilder();
        for (OpResult result : good.commit()) {
            kinds.append(' ').append(result.getClass().getSimpleName());
            if (result instanceof OpResult.CreateResult) {
                kinds.append('=').append(((OpResult.CreateResult) result).getPath());
            }
        }
        say("transaction" + kinds);
        Stat parent = zk.exists("/m", false);
        say("one zxid", parent.getCzxid() == parent.getMzxid() && parent.getMzxid() == parent.getPzxid());
        say("children changed", parent.getCversion());

        List<Op> bad = new ArrayList<>();
        bad.add(Op.create("/m/a", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        bad.add(Op.check("/m", 9));
        bad.add(Op.delete("/m", -1));
        try {
            zk.multi(bad);
            say("a bad transaction was taken");
        } catch (KeeperException refusal) {
            StringBuilder codes = new StringBuilder();
            for (OpResult result : refusal.getResults()) {
                codes.append(' ').append(((OpResult.ErrorResult) result).getErr());
            }
            say("refused " + refusal.code() + codes);
        }
        say("half of it", zk.exists("/m/a", false) != null);
    }

    private void reads(ZooKeeper zk) throws Exception {
        List<Op> ops = new ArrayList<>();
        ops.add(Op.getData("/m"));
        ops.add(Op.getChildren("/m"));
        ops.add(Op.getData("/nobody"));
        StringBuilder kinds = new StringBuilder();
        for (OpResult result : zk.multi(ops)) {
            kinds.append(' ').append(result.getClass().getSimpleName());
            if (result instanceof OpResult.ErrorResult) {
                kinds.append('=').append(((OpResult.ErrorResult) result).getErr());
            }
        }
        say("many reads" + kinds);
    }

    private void watches(ZooKeeper zk) throws Exception {
        Watcher watcher = event -> {
            if (event.getPath() != null) { // the state of the connection is told to every watcher
                events.add(event.getType() + " " + event.getPath());
            }
        };
        zk.addWatch("/j", watcher, AddWatchMode.PERSISTENT_RECURSIVE);
        zk.exists("/j/late", watcher);
        zk.create("/j/late", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        zk.setData("/j/late", bytes("x"), -1);
        zk.delete("/j/late", -1);
        zk.multi(List.of(
            Op.create("/j/m1", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
            Op.setData("/j/m1", bytes("y"), 0),
            Op.delete("/j/m1", 1)));
        say("events", nextEvents(6));
        zk.removeWatches("/j", watcher, Watcher.WatcherType.Any, false);
        say("removed", nextEvents(1));
        refused("removed again", () -> zk.removeWatches("/j", watcher, Watcher.WatcherType.Any, false));

        // Watches outlive their connection: what happens while it is broken is told after it is back.
        try (Breaking breaking = new Breaking(address)) {
            breaking.addWatch("/j/box", watcher, AddWatchMode.PERSISTENT);
            breaking.exists("/j/soon", watcher);
            breaking.getData("/j/two", watcher, null);
            breaking.breakConnection();
            zk.create("/j/soon", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            zk.delete("/j/two", -1);
            List<String> told = nextEvents(2);
            Collections.sort(told);
            say("told after the break", told);
            breaking.awaitReturn();
            zk.setData("/j/box", null, -1);
            say("and the one that stays", nextEvents(1));
        }
    }

    /** The usual lock: the lowest sequential ephemeral has it, the next one watches the one before. */
    private void locks(ZooKeeper zk) throws Exception {
        zk.create("/lock", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
        try (ZooKeeper other = connect()) {
            String first = other.create("/lock/n-", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL_SEQUENTIAL);
            String second = zk.create("/lock/n-", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL_SEQUENTIAL);
            say("waiting behind", first + " " + second);
            say("owner", zk.exists(first, event -> events.add("gone " + event.getPath())).getEphemeralOwner() == other.getSessionId());
        }
        say("its holder left", nextEvents(1));
        say("ephemerals of mine", zk.getEphemerals("/lock"));
    }

    private void burst(ZooKeeper zk) throws Exception {
        CountDownLatch answers = new CountDownLatch(BURST);
        List<Integer> versions = Collections.synchronizedList(new ArrayList<>());
        for (int number = 0; number < BURST; number++) {
            zk.setData("/j", bytes("b" + number), number, (code, path, context, stat) -> {
                versions.add(code == 0 ? stat.getVersion() : code);
                answers.countDown();
            }, null);
        }
        boolean all = answers.await(TIMEOUT_MS, TimeUnit.MILLISECONDS);
        List<Integer> expected = new ArrayList<>();
        for (int version = 1; version <= BURST; version++) {
            expected.add(version);
        }
        say("burst in order", all && versions.equals(expected));
        say("last", new String(zk.getData("/j", false, null)));
    }

    private void sessions(ZooKeeper zk) throws Exception {
        Crashing lost = new Crashing(address);
        lost.create("/held", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
        lost.crash();
        CountDownLatch connected = new CountDownLatch(1);
        // Its session and password are all that another process needs to go on as it.
        try (ZooKeeper heir = new ZooKeeper(address, TIMEOUT_MS, event -> connectedTo(event, connected),
            lost.getSessionId(), lost.getSessionPasswd())) {
            connected.await(TIMEOUT_MS, TimeUnit.MILLISECONDS);
            say("same session", heir.getSessionId() == lost.getSessionId());
            say("still held", zk.exists("/held", false) != null);
        }
        say("closed by its heir", zk.exists("/held", false) == null);

        CountDownLatch expired = new CountDownLatch(1);
        Watcher watcher = event -> {
            if (event.getState() == Watcher.Event.KeeperState.Expired) {
                expired.countDown();
            }
        };
        try (ZooKeeper stranger = new ZooKeeper(address, TIMEOUT_MS, watcher, 0x1234, new byte[16])) {
            say("a session that never was expires", expired.await(TIMEOUT_MS, TimeUnit.MILLISECONDS));
        }
    }

    /** A client whose connection can be broken; it comes back by itself, with the same session. */
    private static class Breaking extends ZooKeeper {
        private static final CountDownLatch BACK = new CountDownLatch(2); // connected at first, and again

        Breaking(String address) throws Exception {
            super(address, TIMEOUT_MS, event -> connectedTo(event, BACK));
        }

        void breakConnection() throws java.io.IOException {
            getTestable().closeSocket();
        }

        /** An answer on the new connection comes after its watches were set again: they were sent first. */
        void awaitReturn() throws Exception {
            BACK.await(TIMEOUT_MS, TimeUnit.MILLISECONDS);
            exists("/", false);
        }
    }

    /** A client whose process dies: its connection breaks and nobody closes its session. */
    private static class Crashing extends ZooKeeper {
        Crashing(String address) throws Exception {
            super(address, TIMEOUT_MS, event -> { });
        }

        void crash() {
            cnxn.disconnect();
        }
    }

    private ZooKeeper connect() throws Exception {
        CountDownLatch connected = new CountDownLatch(1);
        ZooKeeper zk = new ZooKeeper(address, TIMEOUT_MS, event -> connectedTo(event, connected));
        if (!connected.await(TIMEOUT_MS, TimeUnit.MILLISECONDS)) {
            throw new IllegalStateException("no connection to " + address);
        }
        return zk;
    }

    private static void connectedTo(WatchedEvent event, CountDownLatch connected) {
        if (event.getState() == Watcher.Event.KeeperState.SyncConnected) {
            connected.countDown();
        }
    }

    private List<String> nextEvents(int count) throws InterruptedException {
        List<String> next = new ArrayList<>();
        for (int index = 0; index < count; index++) {
            next.add(events.poll(TIMEOUT_MS, TimeUnit.MILLISECONDS));
        }
        return next;
    }

    private interface Call {
        void run() throws KeeperException, InterruptedException;
    }

    private static void refused(String what, Call call) throws InterruptedException {
        try {
            call.run();
            say(what, "taken");
        } catch (KeeperException refusal) {
            say(what, refusal.code());
        }
    }

    private static byte[] bytes(String text) {
        return text.getBytes(java.nio.charset.StandardCharsets.UTF_8);
    }

    private static void say(String what, Object answer) {
        say(what + ": " + answer);
    }

    private static void say(String line) {
        System.out.println(line);
    }
}

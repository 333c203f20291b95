import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.Stat;

/**
 * The Java client, living through a rolling migration. Usage: Counter HOST:PORT,...
 *
 * <p>It counts in a node under the version it knows, holds an ephemeral and a watch, and reconnects as the client does. When stdin
 * ends it says how it went, and exits 1 if a write that was answered is gone, or its session, or its ephemeral, or its watch.
 */
public class Counter {
    private static final String COUNTER = "/roll-java";
    private static final String LIVE = "/roll-java/live";
    private static final String WATCHED = "/roll-java/watched";
    private static final int TIMEOUT_MS = 10_000;

    public static void main(String[] arguments) throws Exception {
        CountDownLatch over = new CountDownLatch(1);
        Thread reader = new Thread(() -> {
            try {
                while (System.in.read() >= 0) {}
            } catch (IOException end) {
                // as good as the end
            }
            over.countDown();
        });
        reader.setDaemon(true);
        reader.start();
        AtomicInteger reconnections = new AtomicInteger(-1);
        CountDownLatch connected = new CountDownLatch(1);
        CountDownLatch fired = new CountDownLatch(1);
        ZooKeeper zk = new ZooKeeper(arguments[0], TIMEOUT_MS, event -> {
            if (event.getState() == Watcher.Event.KeeperState.SyncConnected
                    && event.getType() == Watcher.Event.EventType.None) {
                reconnections.incrementAndGet();
                connected.countDown();
            }
        });
        connected.await(30, TimeUnit.SECONDS);
        long session = zk.getSessionId();
        create(zk, COUNTER, CreateMode.PERSISTENT);
        create(zk, LIVE, CreateMode.EPHEMERAL);
        create(zk, WATCHED, CreateMode.PERSISTENT);
        eventually(() -> zk.exists(WATCHED, event -> {
            if (event.getType() != Watcher.Event.EventType.None) {
                fired.countDown();
            }
        }));
        System.out.println("session 0x" + Long.toHexString(session));
        int answered = 0;
        int unknown = 0;
        while (!over.await(2, TimeUnit.MILLISECONDS)) {
            try {
                int version = zk.exists(COUNTER, false).getVersion();
                zk.setData(COUNTER, bytes(String.valueOf(version + 1)), version);
                answered++;
            } catch (KeeperException failed) {
                unknown++;
                over.await(50, TimeUnit.MILLISECONDS);
            }
        }
        Stat stat = new Stat();
        String data = new String(eventually(() -> zk.getData(COUNTER, false, stat)), StandardCharsets.UTF_8);
        Stat live = eventually(() -> zk.exists(LIVE, false));
        eventually(() -> zk.setData(WATCHED, bytes("now"), -1));
        boolean hasFired = fired.await(10, TimeUnit.SECONDS);
        System.out.println("java: " + answered + " writes, " + unknown + " without an answer, " + reconnections
                + " reconnections, version " + stat.getVersion());
        StringBuilder wrong = new StringBuilder();
        boolean isWhole = answered <= stat.getVersion() && stat.getVersion() <= answered + unknown;
        if (!isWhole || !data.equals(String.valueOf(stat.getVersion()))) {
            wrong.append("a write is gone: version ").append(stat.getVersion()).append(", data ").append(data).append('\n');
        }
        if (zk.getSessionId() != session || !zk.getState().isAlive()) {
            wrong.append("the session has ended\n");
        }
        if (live == null || live.getEphemeralOwner() != session) {
            wrong.append("the ephemeral is not ours\n");
        }
        if (!hasFired) {
            wrong.append("the watch is gone\n");
        }
        System.out.print(wrong);
        zk.close();
        System.exit(wrong.length() == 0 ? 0 : 1);
    }

    private interface Call<T> {
        T call() throws KeeperException, InterruptedException;
    }

    /** Connections come and go; whatever else goes wrong is an error. */
    private static <T> T eventually(Call<T> call) throws KeeperException, InterruptedException {
        while (true) {
            try {
                return call.call();
            } catch (KeeperException.ConnectionLossException again) {
                Thread.sleep(50);
            }
        }
    }

    private static void create(ZooKeeper zk, String path, CreateMode mode) throws Exception {
        try {
            eventually(() -> zk.create(path, bytes("0"), ZooDefs.Ids.OPEN_ACL_UNSAFE, mode));
        } catch (KeeperException.NodeExistsException first) {
            // the answer to the first attempt was lost
        }
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }
}

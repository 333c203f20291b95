import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.recipes.shared.SharedCountListener;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryNTimes;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;

/**
 * Everything under way while the server goes and comes back. Usage: Restarts HOST:PORT
 *
 * <p>It writes "restart: stop" or "restart: kill" when it wants that to happen, and goes on when a line on stdin says that it has.
 * What else it prints is what two right servers must answer alike, for a comparison with restarts.txt.
 */
public class Restarts {
    private static final int PATIENCE_S = 20;
    private static final int SESSION_MS = 15_000;

    private final BufferedReader suite = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    private final BlockingQueue<String> events = new LinkedBlockingQueue<>();
    private final CuratorFramework one;
    private final CuratorFramework two;
    private final ZooKeeper raw;

    public static void main(String[] arguments) throws Exception {
        CountDownLatch connected = new CountDownLatch(1);
        try (CuratorFramework one = connect(arguments[0]);
            CuratorFramework two = connect(arguments[0]);
            ZooKeeper raw = new ZooKeeper(arguments[0], SESSION_MS, event -> connected.countDown())) {
            connected.await(PATIENCE_S, TimeUnit.SECONDS);
            new Restarts(one, two, raw).run();
        }
        say("closed", true);
        System.exit(0); // some recipes leave threads behind
    }

    private Restarts(CuratorFramework one, CuratorFramework two, ZooKeeper raw) {
        this.one = one;
        this.two = two;
        this.raw = raw;
    }

    private void run() throws Exception {
        long[] sessions = sessions();
        Counting counting = new Counting();
        Elected elected = new Elected();
        AtomicInteger shared = new AtomicInteger();
        try (LeaderLatch first = new LeaderLatch(one, "/latch");
            LeaderLatch second = new LeaderLatch(two, "/latch");
            PersistentNode kept = new PersistentNode(one, CreateMode.EPHEMERAL, false, "/kept", bytes("x"));
            CuratorCache cache = CuratorCache.build(two, "/cached");
            SharedCount count = new SharedCount(one, "/shared", 0);
            SharedCount seen = new SharedCount(two, "/shared", 0)) {
            first.start();
            first.await(PATIENCE_S, TimeUnit.SECONDS);
            second.start();
            kept.start();
            kept.waitForInitialCreate(PATIENCE_S, TimeUnit.SECONDS);
            CountDownLatch filled = new CountDownLatch(1);
            cache.listenable().addListener(
                org.apache.curator.framework.recipes.cache.CuratorCacheListener.builder().forInitialized(filled::countDown).build());
            two.create().orSetData().forPath("/cached");
            cache.start();
            filled.await(PATIENCE_S, TimeUnit.SECONDS);
            count.start();
            seen.addListener(new SharedCountListener() {
                @Override
                public void countHasChanged(org.apache.curator.framework.recipes.shared.SharedCountReader reader, int now) {
                    shared.set(now);
                }

                @Override
                public void stateChanged(CuratorFramework client, ConnectionState state) {}
            });
            seen.start();
            elected.start();
            counting.start();
            raw.create("/raw", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            raw.create("/raw/live", null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL);
            int round = 0;
            for (String how : List.of("stop", "kill")) {
                round++;
                watch(round == 1);
                InterProcessMutex mine = new InterProcessMutex(one, "/mutex");
                mine.acquire(PATIENCE_S, TimeUnit.SECONDS);
                Waiting mutex = new Waiting(() -> {
                    InterProcessMutex theirs = new InterProcessMutex(two, "/mutex");
                    boolean got = theirs.acquire(2 * PATIENCE_S, TimeUnit.SECONDS);
                    theirs.release();
                    return got;
                });
                InterProcessReadWriteLock readers = new InterProcessReadWriteLock(one, "/read-write");
                readers.readLock().acquire(PATIENCE_S, TimeUnit.SECONDS);
                Waiting writer = new Waiting(() -> {
                    InterProcessReadWriteLock writers = new InterProcessReadWriteLock(two, "/read-write");
                    boolean got = writers.writeLock().acquire(2 * PATIENCE_S, TimeUnit.SECONDS);
                    writers.writeLock().release();
                    return got;
                });
                DistributedBarrier gate = new DistributedBarrier(one, "/gate");
                gate.setBarrier();
                Waiting passing = new Waiting(() -> new DistributedBarrier(two, "/gate").waitOnBarrier(2 * PATIENCE_S, TimeUnit.SECONDS));
                say("waiting for " + how, eventually(() -> children("/mutex") == 2 && children("/read-write") == 2));

                restart(how);

                say("the same sessions", java.util.Arrays.equals(sessions, sessions()));
                say("its ephemeral", raw.exists("/raw/live", false).getEphemeralOwner() == raw.getSessionId());
                fire();
                say("still locked", mine.isAcquiredInThisProcess() && mutex.isWaiting() && children("/mutex") == 2);
                mine.release();
                say("handed on", mutex.succeeded());
                say("still read", writer.isWaiting());
                readers.readLock().release();
                say("then written", writer.succeeded());
                say("gate closed", passing.isWaiting());
                gate.removeBarrier();
                say("gate open", passing.succeeded());
                DistributedDoubleBarrier meeting = new DistributedDoubleBarrier(one, "/meeting", 2);
                Waiting other = new Waiting(() -> {
                    DistributedDoubleBarrier theirs = new DistributedDoubleBarrier(two, "/meeting", 2);
                    return theirs.enter(PATIENCE_S, TimeUnit.SECONDS) && theirs.leave(PATIENCE_S, TimeUnit.SECONDS);
                });
                say("met", meeting.enter(PATIENCE_S, TimeUnit.SECONDS));
                say("parted", meeting.leave(PATIENCE_S, TimeUnit.SECONDS) && other.succeeded());
                say("one leader", eventually(() -> first.hasLeadership() != second.hasLeadership()
                    && first.getParticipants().size() == 2));
                say("one elected", elected.turns(3) && elected.mostAtOnce.get() == 1);
                say("kept", eventually(() -> two.checkExists().forPath("/kept") != null)
                    && two.checkExists().forPath("/kept").getEphemeralOwner() == sessions[0]);
                one.create().orSetData().forPath("/cached/" + how, bytes(how));
                say("cached", eventually(() -> cache.get("/cached/" + how).isPresent()));
                int next = 10 * round;
                say("set", eventually(() -> count.trySetCount(count.getVersionedValue(), next)));
                say("seen", eventually(() -> shared.get() == next));
                say("counting", counting.goesOn());
            }
            elected.close();
            say("counted", counting.isAllThere());
        }
        say("one after the other", elected.mostAtOnce.get());
    }

    private long[] sessions() throws Exception {
        awaitRaw();
        return new long[] {one.getZookeeperClient().getZooKeeper().getSessionId(),
            two.getZookeeperClient().getZooKeeper().getSessionId(), raw.getSessionId()};
    }

    /** Does what Curator does for its clients: asks again while the connection is not back. */
    private void awaitRaw() throws Exception {
        eventually(() -> {
            try {
                return raw.exists("/", false) != null;
            } catch (KeeperException.ConnectionLossException notYet) {
                return false;
            }
        });
    }

    /** Arms a watch of each kind, each on a node of its own; those that stay, once. */
    private void watch(boolean first) throws Exception {
        for (String path : List.of("/raw/data", "/raw/kids", "/raw/stays", "/raw/deep")) {
            if (raw.exists(path, false) == null) {
                raw.create(path, null, ZooDefs.Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            }
        }
        Watcher heard = event -> {
            if (event.getPath() != null) {
                events.add(event.getType() + " " + event.getPath());
            }
        };
        raw.getData("/raw/data", heard, null);
        raw.exists("/raw/soon", heard);
        raw.getChildren("/raw/kids", heard);
        if (first) {
            raw.addWatch("/raw/stays", heard, AddWatchMode.PERSISTENT);
            raw.addWatch("/raw/deep", heard, AddWatchMode.PERSISTENT_RECURSIVE);
        }
    }

    /** Each fires, and once only but for those that stay. */
    private void fire() throws Exception {
        for (int time = 0; time < 2; time++) {
            two.setData().forPath("/raw/data");
            two.create().forPath("/raw/soon");
            two.create().forPath("/raw/kids/one");
            two.setData().forPath("/raw/stays");
            two.create().forPath("/raw/deep/one");
            two.delete().forPath("/raw/soon");
            two.delete().forPath("/raw/kids/one");
            two.delete().forPath("/raw/deep/one");
        }
        List<String> told = new ArrayList<>();
        for (int number = 0; number < 9; number++) {
            told.add(String.valueOf(events.poll(PATIENCE_S, TimeUnit.SECONDS)));
        }
        Collections.sort(told);
        say("told", told);
        raw.exists("/", false);
        say("and no more", events.poll());
    }

    private void restart(String how) throws Exception {
        System.out.println("restart: " + how);
        if (suite.readLine() == null) {
            throw new IllegalStateException("nobody there to restart the server");
        }
    }

    /** Something that blocks until somebody else does something. */
    private static class Waiting {
        private final CountDownLatch over = new CountDownLatch(1);
        private volatile boolean succeeded;

        Waiting(Question question) {
            Thread thread = new Thread(() -> {
                try {
                    succeeded = question.ask();
                } catch (Exception failure) {
                    say("did not wait to the end", failure);
                }
                over.countDown();
            });
            thread.setDaemon(true);
            thread.start();
        }

        boolean isWaiting() {
            return over.getCount() > 0;
        }

        boolean succeeded() throws InterruptedException {
            return over.await(PATIENCE_S, TimeUnit.SECONDS) && succeeded;
        }
    }

    /** Two candidates who lead for a moment each, again and again. */
    private class Elected implements AutoCloseable {
        final AtomicInteger mostAtOnce = new AtomicInteger();
        private final AtomicInteger leading = new AtomicInteger();
        private final Semaphore turns = new Semaphore(0);
        private final List<LeaderSelector> selectors = new ArrayList<>();

        void start() {
            for (CuratorFramework client : List.of(one, two)) {
                LeaderSelector selector = new LeaderSelector(client, "/elected", new LeaderSelectorListenerAdapter() {
                    @Override
                    public void takeLeadership(CuratorFramework leader) throws Exception {
                        mostAtOnce.accumulateAndGet(leading.incrementAndGet(), Math::max);
                        try {
                            Thread.sleep(20);
                            turns.release();
                        } finally {
                            leading.decrementAndGet();
                        }
                    }
                });
                selector.autoRequeue();
                selector.start();
                selectors.add(selector);
            }
        }

        boolean turns(int count) throws InterruptedException {
            turns.drainPermits();
            return turns.tryAcquire(count, PATIENCE_S, TimeUnit.SECONDS);
        }

        @Override
        public void close() {
            selectors.forEach(LeaderSelector::close);
        }
    }

    /** Two who count all the time in one counter. */
    private class Counting {
        private final AtomicLong certain = new AtomicLong();
        private final List<Thread> threads = new ArrayList<>();
        private volatile boolean over;

        void start() {
            for (CuratorFramework client : List.of(one, two)) {
                DistributedAtomicLong counter = new DistributedAtomicLong(client, "/counter", new RetryNTimes(5, 1));
                Thread thread = new Thread(() -> {
                    while (!over) {
                        try {
                            AtomicValue<Long> value = counter.increment();
                            if (value.succeeded()) {
                                certain.incrementAndGet();
                            }
                            Thread.sleep(2);
                        } catch (KeeperException lost) {
                            // it may have counted, or not
                        } catch (Exception end) {
                            return;
                        }
                    }
                });
                thread.setDaemon(true);
                thread.start();
                threads.add(thread);
            }
        }

        boolean goesOn() throws Exception {
            long before = certain.get();
            return eventually(() -> certain.get() > before + 10);
        }

        boolean isAllThere() throws Exception {
            over = true;
            for (Thread thread : threads) {
                thread.join(TimeUnit.SECONDS.toMillis(PATIENCE_S));
            }
            // More of it there may be: Curator asks again when an answer was lost.
            return new DistributedAtomicLong(one, "/counter", new RetryNTimes(5, 1)).get().postValue() >= certain.get();
        }
    }

    private interface Question {
        boolean ask() throws Exception;
    }

    private int children(String path) throws Exception {
        try {
            return one.getChildren().forPath(path).size();
        } catch (KeeperException.NoNodeException nobody) {
            return 0;
        }
    }

    private static boolean eventually(Question question) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_S);
        while (!question.ask()) {
            if (System.nanoTime() > deadline) {
                return false;
            }
            Thread.sleep(5);
        }
        return true;
    }

    private static CuratorFramework connect(String address) throws Exception {
        CuratorFramework client =
            CuratorFrameworkFactory.newClient(address, SESSION_MS, SESSION_MS, new RetryNTimes(PATIENCE_S * 10, 100));
        client.start();
        if (!client.blockUntilConnected(PATIENCE_S, TimeUnit.SECONDS)) {
            throw new IllegalStateException("no connection to " + address);
        }
        return client;
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static void say(String what, Object answer) {
        System.out.println(what + ": " + answer);
    }
}

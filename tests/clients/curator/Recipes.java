import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.api.transaction.CuratorOp;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.retry.RetryOneTime;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;

/**
 * Curator's recipes on two clients. Usage: Recipes HOST:PORT
 *
 * <p>It prints only what two right servers must answer alike, for a comparison with expected.txt.
 */
public class Recipes {
    private static final int PATIENCE_S = 15;

    private final CuratorFramework one;
    private final CuratorFramework two;

    public static void main(String[] arguments) throws Exception {
        try (CuratorFramework one = connect(arguments[0]); CuratorFramework two = connect(arguments[0])) {
            new Recipes(one, two).run();
        }
        say("closed", true);
        System.exit(0); // some recipes leave threads behind
    }

    private Recipes(CuratorFramework one, CuratorFramework two) {
        this.one = one;
        this.two = two;
    }

    private void run() throws Exception {
        nodes();
        transactions();
        locks();
        counters();
        leaders();
        barriers();
        caches();
        members();
    }

    private void nodes() throws Exception {
        say("with parents", one.create().creatingParentsIfNeeded().forPath("/c/deep/er", bytes("x")));
        say("parents are containers", one.create().creatingParentContainersIfNeeded().forPath("/c/box/er"));
        say("or set", one.create().orSetData().forPath("/c/deep/er", bytes("y")));
        say("data", new String(two.getData().forPath("/c/deep/er"), StandardCharsets.UTF_8));
        // The name carries a key by which the client finds its own node again after a lost answer.
        String guarded = one.create().withProtection().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath("/c/g-");
        say("protected", guarded.matches("/c/_c_[0-9a-f-]{36}-g-\\d{10}"));
        one.delete().guaranteed().deletingChildrenIfNeeded().forPath("/c");
        say("gone", two.checkExists().forPath("/c") == null);
    }

    private void transactions() throws Exception {
        CuratorOp create = one.transactionOp().create().forPath("/t", bytes("x"));
        CuratorOp set = one.transactionOp().setData().withVersion(0).forPath("/t", bytes("y"));
        List<String> kinds = new ArrayList<>();
        one.transaction().forOperations(create, set).forEach(result -> kinds.add(result.getType() + " " + result.getForPath()));
        say("transaction", kinds);
        CuratorOp check = one.transactionOp().check().withVersion(7).forPath("/t");
        try {
            one.transaction().forOperations(one.transactionOp().delete().forPath("/t"), check);
            say("refused", false);
        } catch (KeeperException refusal) {
            say("refused", refusal.code());
        }
        say("still there", two.checkExists().forPath("/t").getVersion());
    }

    private void locks() throws Exception {
        InterProcessMutex mine = new InterProcessMutex(one, "/mutex");
        InterProcessMutex theirs = new InterProcessMutex(two, "/mutex");
        say("mine", mine.acquire(PATIENCE_S, TimeUnit.SECONDS) && mine.acquire(PATIENCE_S, TimeUnit.SECONDS));
        say("not theirs", theirs.acquire(50, TimeUnit.MILLISECONDS));
        say("waiting", mine.getParticipantNodes().size());
        mine.release();
        mine.release();
        say("theirs", theirs.acquire(PATIENCE_S, TimeUnit.SECONDS));
        theirs.release();

        int[] counted = {0};
        inBoth(client -> {
            InterProcessMutex mutex = new InterProcessMutex(client, "/contended");
            for (int turn = 0; turn < 50; turn++) {
                mutex.acquire();
                counted[0]++; // nobody else is here
                mutex.release();
            }
        });
        say("counted under the lock", counted[0]);

        InterProcessReadWriteLock readers = new InterProcessReadWriteLock(one, "/read-write");
        InterProcessReadWriteLock writers = new InterProcessReadWriteLock(two, "/read-write");
        say("a reader", readers.readLock().acquire(PATIENCE_S, TimeUnit.SECONDS));
        say("keeps writers out", writers.writeLock().acquire(50, TimeUnit.MILLISECONDS));
        say("but no readers", writers.readLock().acquire(PATIENCE_S, TimeUnit.SECONDS));
        readers.readLock().release();
        writers.readLock().release();

        InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(one, "/semaphore", 2);
        say("two leases", semaphore.acquire(2, PATIENCE_S, TimeUnit.SECONDS).size());
        say("no third", semaphore.acquire(50, TimeUnit.MILLISECONDS) != null);
    }

    private void counters() throws Exception {
        inBoth(client -> {
            DistributedAtomicLong counter = new DistributedAtomicLong(client, "/counter", new RetryOneTime(1));
            for (int added = 0; added < 25;) {
                if (counter.increment().succeeded()) {
                    added++;
                }
            }
        });
        say("counter", new DistributedAtomicLong(one, "/counter", new RetryOneTime(1)).get().postValue());

        try (SharedCount count = new SharedCount(one, "/shared", 3); SharedCount seen = new SharedCount(two, "/shared", 3)) {
            count.start();
            seen.start();
            say("set", count.trySetCount(count.getVersionedValue(), 4));
            say("seen", eventually(() -> seen.getCount() == 4));
        }
    }

    private void leaders() throws Exception {
        LeaderLatch first = new LeaderLatch(one, "/leader", "first");
        LeaderLatch second = new LeaderLatch(two, "/leader", "second");
        first.start();
        say("leads", first.await(PATIENCE_S, TimeUnit.SECONDS));
        second.start();
        say("candidates", eventually(() -> second.getParticipants().size() == 2));
        say("leader", second.getLeader().getId());
        first.close();
        say("takes over", second.await(PATIENCE_S, TimeUnit.SECONDS));
        second.close();
    }

    private void barriers() throws Exception {
        BlockingQueue<String> passed = new LinkedBlockingQueue<>();
        inBoth(client -> {
            DistributedDoubleBarrier barrier = new DistributedDoubleBarrier(client, "/barrier", 2);
            passed.add("entered " + barrier.enter(PATIENCE_S, TimeUnit.SECONDS));
            passed.add("left " + barrier.leave(PATIENCE_S, TimeUnit.SECONDS));
        });
        List<String> sorted = new ArrayList<>(passed);
        Collections.sort(sorted);
        say("barrier", sorted);
    }

    private void caches() throws Exception {
        one.create().forPath("/cached", bytes("root"));
        one.create().forPath("/cached/a", bytes("1"));
        BlockingQueue<String> heard = new LinkedBlockingQueue<>();
        CountDownLatch filled = new CountDownLatch(1);
        try (CuratorCache cache = CuratorCache.build(two, "/cached")) {
            cache.listenable().addListener(new org.apache.curator.framework.recipes.cache.CuratorCacheListener() {
                @Override
                public void event(Type type, org.apache.curator.framework.recipes.cache.ChildData before,
                    org.apache.curator.framework.recipes.cache.ChildData after) {
                    if (filled.getCount() == 0) {
                        heard.add(type + " " + (after == null ? before : after).getPath());
                    }
                }

                @Override
                public void initialized() {
                    filled.countDown();
                }
            });
            cache.start();
            say("filled", filled.await(PATIENCE_S, TimeUnit.SECONDS));
            say("nodes", cache.size());
            // One change after the other: the cache reads each node again, and may hear two changes as one.
            one.setData().forPath("/cached/a", bytes("2"));
            say("heard", heard.poll(PATIENCE_S, TimeUnit.SECONDS));
            one.create().forPath("/cached/b", bytes("3"));
            say("heard", heard.poll(PATIENCE_S, TimeUnit.SECONDS));
            one.delete().forPath("/cached/a");
            say("heard", heard.poll(PATIENCE_S, TimeUnit.SECONDS));
            say("nodes", cache.size());
        }
    }

    private void members() throws Exception {
        try (GroupMember mine = new GroupMember(one, "/group", "one"); GroupMember theirs = new GroupMember(two, "/group", "two")) {
            mine.start();
            theirs.start();
            say("members", eventually(() -> mine.getCurrentMembers().size() == 2));
        }
        try (PersistentNode node = new PersistentNode(one, CreateMode.EPHEMERAL, false, "/kept", bytes("x"))) {
            node.start();
            say("kept", node.waitForInitialCreate(PATIENCE_S, TimeUnit.SECONDS));
            two.delete().forPath("/kept");
            say("made again", eventually(() -> two.checkExists().forPath("/kept") != null));
        }
    }

    private interface Work {
        void on(CuratorFramework client) throws Exception;
    }

    private interface Question {
        boolean ask() throws Exception;
    }

    /** The same work from both clients at once. */
    private void inBoth(Work work) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(2);
        List<Future<?>> running = new ArrayList<>();
        for (CuratorFramework client : List.of(one, two)) {
            running.add(threads.submit(() -> {
                work.on(client);
                return null;
            }));
        }
        for (Future<?> future : running) {
            future.get(4 * PATIENCE_S, TimeUnit.SECONDS);
        }
        threads.shutdown();
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
        CuratorFramework client = CuratorFrameworkFactory.newClient(address, 10_000, 10_000, new RetryOneTime(100));
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

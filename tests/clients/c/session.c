/* A program on Debian's C client: transactions and the calls that answer later. Usage: session HOST:PORT
 *
 * It prints only what two right servers must answer alike (codes, versions, names, whether numbers are the same), so
 * that its output can be compared line by line with expected.txt. */

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zookeeper/zookeeper.h>

#define WAIT_SECONDS 15
#define BURST 200

/* One mutex and one condition stand for "something came"; everything the client's thread writes is below. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t came = PTHREAD_COND_INITIALIZER;
static int connected;
static int burst_answered;
static int burst_in_order = 1;
static char events[4096];

static void fail(const char *what, int code) {
    printf("%s: %s (%d)\n", what, zerror(code), code);
    exit(1);
}

static void await(const int *value, int wanted, const char *what) {
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += WAIT_SECONDS;
    pthread_mutex_lock(&mutex);
    while (*value < wanted) {
        if (pthread_cond_timedwait(&came, &mutex, &deadline) != 0) {
            printf("waited in vain for %s\n", what);
            exit(1);
        }
    }
    pthread_mutex_unlock(&mutex);
}

static const char *type_name(int type) {
    if (type == ZOO_CREATED_EVENT) return "created";
    if (type == ZOO_DELETED_EVENT) return "deleted";
    if (type == ZOO_CHANGED_EVENT) return "changed";
    if (type == ZOO_CHILD_EVENT) return "children";
    return "other";
}

static void watcher(zhandle_t *handle, int type, int state, const char *path, void *context) {
    (void)handle;
    (void)context;
    pthread_mutex_lock(&mutex);
    if (type == ZOO_SESSION_EVENT) {
        if (state == ZOO_CONNECTED_STATE) connected = 1;
    } else {
        size_t used = strlen(events);
        snprintf(events + used, sizeof events - used, " %s:%s", type_name(type), path);
    }
    pthread_cond_broadcast(&came);
    pthread_mutex_unlock(&mutex);
}

static void set_answered(int code, const struct Stat *stat, const void *data) {
    int number = (int)(long)data;
    pthread_mutex_lock(&mutex);
    if (code != ZOK || stat->version != number + 1 || number != burst_answered) burst_in_order = 0;
    burst_answered++;
    pthread_cond_broadcast(&came);
    pthread_mutex_unlock(&mutex);
}

static void print_multi(const char *what, int code, const zoo_op_result_t *results, int count) {
    printf("%s: %d, each", what, code);
    for (int index = 0; index < count; index++) printf(" %d", results[index].err);
    printf("\n");
}

static void transactions(zhandle_t *handle) {
    enum { COUNT = 4 };
    zoo_op_t ops[COUNT];
    zoo_op_result_t results[COUNT];
    struct Stat set_stat, one_stat, two_stat;
    char one[64], two[64], sequential[64];

    zoo_create_op_init(&ops[0], "/t", "x", 1, &ZOO_OPEN_ACL_UNSAFE, 0, one, sizeof one);
    zoo_create_op_init(&ops[1], "/t/two", "y", 1, &ZOO_OPEN_ACL_UNSAFE, 0, two, sizeof two);
    zoo_create_op_init(&ops[2], "/t/s-", "z", 1, &ZOO_OPEN_ACL_UNSAFE, ZOO_SEQUENCE, sequential, sizeof sequential);
    zoo_set_op_init(&ops[3], "/t", "xx", 2, 0, &set_stat);
    int code = zoo_multi(handle, COUNT, ops, results);
    print_multi("all good", code, results, COUNT);
    printf("names: %s %s %s, version %d\n", one, two, sequential, set_stat.version);
    zoo_exists(handle, "/t", 0, &one_stat);
    zoo_exists(handle, "/t/two", 0, &two_stat);
    printf("one zxid for all: %s\n", one_stat.czxid == two_stat.czxid && one_stat.mzxid == two_stat.mzxid ? "yes" : "no");

    zoo_delete_op_init(&ops[0], "/t/two", -1);
    zoo_check_op_init(&ops[1], "/t", 7);
    zoo_set_op_init(&ops[2], "/t", "never", 5, -1, &set_stat);
    print_multi("a check fails", zoo_multi(handle, 3, ops, results), results, 3);
    printf("still there: %d\n", zoo_exists(handle, "/t/two", 0, &two_stat));

    zoo_create_op_init(&ops[0], "/t/new", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, one, sizeof one);
    zoo_create_op_init(&ops[1], "/t/new", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, two, sizeof two);
    print_multi("twice the same", zoo_multi(handle, 2, ops, results), results, 2);
    printf("not there: %d\n", zoo_exists(handle, "/t/new", 0, &two_stat));

    zoo_delete_op_init(&ops[0], "/t/nobody", -1);
    zoo_delete_op_init(&ops[1], "/t", -1);
    print_multi("nobody", zoo_multi(handle, 2, ops, results), results, 2);
    zoo_delete_op_init(&ops[0], "/t", -1);
    print_multi("not empty", zoo_multi(handle, 1, ops, results), results, 1);
    print_multi("nothing", zoo_multi(handle, 0, ops, results), results, 0);
}

static void burst(zhandle_t *handle) {
    zoo_create(handle, "/burst", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
    for (int number = 0; number < BURST; number++) {
        int code = zoo_aset(handle, "/burst", "value", 5, number, set_answered, (void *)(long)number);
        if (code != ZOK) fail("aset", code);
    }
    await(&burst_answered, BURST, "the burst");
    printf("burst of %d: %s\n", BURST, burst_in_order ? "in order, each on the version before" : "out of order");
}

static void watches(zhandle_t *handle) {
    struct String_vector children;
    struct Stat stat;
    char data[64];
    int length = sizeof data;
    zoo_wexists(handle, "/watched", watcher, NULL, &stat);
    zoo_create(handle, "/watched", "x", 1, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
    zoo_wget(handle, "/watched", watcher, NULL, data, &length, &stat);
    if (zoo_wget_children(handle, "/watched", watcher, NULL, &children) == ZOK) deallocate_String_vector(&children);
    zoo_set(handle, "/watched", "yy", 2, -1);
    zoo_create(handle, "/watched/child", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, NULL, 0);
    length = sizeof data;
    zoo_wget(handle, "/watched", watcher, NULL, data, &length, &stat);
    printf("data %.*s, version %d, children %d\n", length, data, stat.version, stat.numChildren);
    zoo_delete(handle, "/watched/child", -1);
    zoo_delete(handle, "/watched", -1);
    /* An answer that comes after the events says that they are here: one thread delivers both, in order. */
    int answered = burst_answered;
    zoo_aset(handle, "/burst", "last", 4, BURST, set_answered, (void *)(long)BURST);
    await(&burst_answered, answered + 1, "the last answer");
    printf("events:%s\n", events);
}

static void errors_and_identities(zhandle_t *handle) {
    struct ACL_vector acl;
    struct Stat stat;
    char path[64];
    printf("no parent: %d\n", zoo_create(handle, "/no/parent", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, path, sizeof path));
    printf("bad path: %d\n", zoo_create(handle, "/a//b", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, path, sizeof path));
    printf("bad version: %d\n", zoo_set(handle, "/burst", "x", 1, 3));
    printf("nobody: %d\n", zoo_delete(handle, "/nobody", -1));
    printf("creator without identity: %d\n", zoo_create(handle, "/mine", "", 0, &ZOO_CREATOR_ALL_ACL, 0, path, sizeof path));
    zoo_add_auth(handle, "digest", "user:pass", 9, NULL, NULL);
    printf("creator: %d\n", zoo_create(handle, "/mine", "", 0, &ZOO_CREATOR_ALL_ACL, 0, path, sizeof path));
    if (zoo_get_acl(handle, "/mine", &acl, &stat) == ZOK) {
        printf("acl: %d %s %s %d\n", acl.count, acl.data[0].id.scheme, acl.data[0].id.id, acl.data[0].perms);
        deallocate_ACL_vector(&acl);
    }
    printf("set_acl: %d\n", zoo_set_acl(handle, "/mine", 0, &ZOO_READ_ACL_UNSAFE));
    printf("set after: %d\n", zoo_set(handle, "/mine", "x", 1, -1));
}

static void second_session(const char *address, zhandle_t *first) {
    connected = 0;
    zhandle_t *second = zookeeper_init(address, watcher, 10000, NULL, NULL, 0);
    await(&connected, 1, "the second session");
    struct Stat stat;
    zoo_create(second, "/hers", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, NULL, 0);
    int code = zoo_exists(first, "/hers", 0, &stat);
    printf("hers: %d, owned by her: %s\n", code, stat.ephemeralOwner == zoo_client_id(second)->client_id ? "yes" : "no");
    zookeeper_close(second);
    printf("hers after she left: %d\n", zoo_exists(first, "/hers", 0, &stat));
}

int main(int count, char **arguments) {
    if (count != 2) {
        fprintf(stderr, "usage: session HOST:PORT\n");
        return 2;
    }
    zoo_set_debug_level(ZOO_LOG_LEVEL_ERROR);
    zhandle_t *handle = zookeeper_init(arguments[1], watcher, 10000, NULL, NULL, 0);
    if (handle == NULL) return 1;
    await(&connected, 1, "the session");
    transactions(handle);
    burst(handle);
    watches(handle);
    errors_and_identities(handle);
    second_session(arguments[1], handle);
    int code = zookeeper_close(handle);
    printf("closed: %d\n", code);
    return 0;
}

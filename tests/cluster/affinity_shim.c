/* Lets processes on a small machine live on a large one: they get, keep and hand on CPU masks and memory policies for CPUs
 * and NUMA domains that the kernel does not have and would refuse.
 *
 * Preloaded into every process of a bed's node. Each thread has a record of its own, a file named after its thread id, and
 * inherits it as the kernel's masks are inherited: at birth, by value, over fork, exec and pthread_create. So a thread that
 * was started before its process was bound keeps the old mask here as well, and a test can see it. The kernel itself is
 * told nothing: all processes share the CPUs there are.
 *
 * gcc -shared -fPIC -O2 -DCPUS=96 -DDOMAINS=2 -DRECORDS='"/dev/shm/affinity"' affinity_shim.c -o affinity_shim.so
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BITS (8 * sizeof(unsigned long))
#define CPU_WORDS ((CPUS + BITS - 1) / BITS)
#define MODE_FLAGS 0xe000
#define ALLOWED_DOMAINS 4

struct record {
    unsigned long long born; /* start time of the thread: a thread id may be used again */
    unsigned long cpus[CPU_WORDS];
    int policy;
    unsigned long domains;
};

static int thread_id(void) { return (int)syscall(SYS_gettid); }

static ssize_t read_text(const char *path, char *text, size_t size) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return -1;
    ssize_t count = read(file, text, size - 1);
    close(file);
    text[count > 0 ? count : 0] = 0;
    return count;
}

/* Start time of a thread in clock ticks since boot; 0 for one that does not exist. */
static unsigned long long born(int thread) {
    char path[64], text[1024];
    unsigned long long time = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", thread);
    if (read_text(path, text, sizeof text) <= 0) return 0;
    char *field = strrchr(text, ')'); /* the name before it may hold anything */
    for (int number = 2; field && number < 22; number++) field = strchr(field + 1, ' ');
    if (field) time = strtoull(field, NULL, 10);
    return time;
}

static int load(int thread, struct record *found) {
    char path[64];
    snprintf(path, sizeof path, RECORDS "/%d", thread);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t count = read(file, found, sizeof *found);
    close(file);
    return count == sizeof *found && found->born == born(thread);
}

/* Writes a thread's record; one that it inherits only where nobody has set it meanwhile, as Slurm does to its child. */
static int store(int thread, struct record *record, int inherited) {
    char path[64];
    struct record there;
    record->born = born(thread);
    if (!record->born) return errno = ESRCH, -1;
    snprintf(path, sizeof path, RECORDS "/%d", thread);
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0) return -1;
    flock(file, LOCK_EX);
    int set = read(file, &there, sizeof there) == sizeof there && there.born == record->born;
    ssize_t done = set && inherited ? (ssize_t)sizeof *record : pwrite(file, record, sizeof *record, 0);
    close(file);
    return done == sizeof *record ? 0 : -1;
}

/* Who a thread without a record has it from: the leader of its process, and that one the parent process. */
static int elder(int thread) {
    char path[64], text[2048];
    int leader = 0, parent = 0;
    snprintf(path, sizeof path, "/proc/%d/status", thread);
    if (read_text(path, text, sizeof text) <= 0) return 0;
    char *line = strstr(text, "\nTgid:");
    if (line) leader = atoi(line + 6);
    line = strstr(text, "\nPPid:");
    if (line) parent = atoi(line + 6);
    return leader != thread ? leader : parent;
}

static void whole_node(struct record *record) {
    memset(record, 0, sizeof *record);
    for (int cpu = 0; cpu < CPUS; cpu++) record->cpus[cpu / BITS] |= 1ul << cpu % BITS;
}

static void in_force(int thread, struct record *found) {
    for (; thread > 0; thread = elder(thread))
        if (load(thread, found)) return;
    whole_node(found);
}

__attribute__((constructor)) static void inherit_over_exec(void) {
    struct record mine;
    in_force(getppid(), &mine);
    store(thread_id(), &mine, 1);
}

static __thread struct record of_forking_thread;

static void before_fork(void) { in_force(thread_id(), &of_forking_thread); }
static void in_child(void) { store(thread_id(), &of_forking_thread, 1); }

__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(before_fork, NULL, in_child); }

struct start {
    void *(*function)(void *);
    void *argument;
    struct record inherited;
};

static void *start_thread(void *given) {
    struct start start = *(struct start *)given;
    free(given);
    store(thread_id(), &start.inherited, 1);
    return start.function(start.argument);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*function)(void *), void *argument) {
    static int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (!create) *(void **)&create = dlsym(RTLD_NEXT, "pthread_create");
    struct start *start = malloc(sizeof *start);
    if (!start) return EAGAIN;
    start->function = function, start->argument = argument;
    in_force(thread_id(), &start->inherited);
    int error = create(thread, attributes, start_thread, start);
    if (error) free(start);
    return error;
}

int sched_setaffinity(pid_t thread, size_t size, const cpu_set_t *mask) {
    struct record record;
    unsigned long wanted[CPU_WORDS] = {0}, any = 0;
    if (!thread) thread = thread_id();
    in_force(thread, &record);
    for (int cpu = 0; cpu < CPUS; cpu++)
        if (CPU_ISSET_S(cpu, size, mask)) wanted[cpu / BITS] |= 1ul << cpu % BITS;
    for (size_t word = 0; word < CPU_WORDS; word++) any |= wanted[word];
    if (!any) return errno = EINVAL, -1;
    memcpy(record.cpus, wanted, sizeof wanted);
    return store(thread, &record, 0);
}

int sched_getaffinity(pid_t thread, size_t size, cpu_set_t *mask) {
    struct record record;
    if (!thread) thread = thread_id();
    if (size < sizeof record.cpus) return errno = EINVAL, -1;
    if (!born(thread)) return errno = ESRCH, -1;
    in_force(thread, &record);
    memset(mask, 0, size);
    memcpy(mask, record.cpus, sizeof record.cpus);
    return 0;
}

/* Of another thread than the caller the C library does not tell the id: refused rather than guessed. */
int pthread_setaffinity_np(pthread_t thread, size_t size, const cpu_set_t *mask) {
    if (!pthread_equal(thread, pthread_self())) return ENOSYS;
    return sched_setaffinity(0, size, mask) ? errno : 0;
}

int pthread_getaffinity_np(pthread_t thread, size_t size, cpu_set_t *mask) {
    if (!pthread_equal(thread, pthread_self())) return ENOSYS;
    return sched_getaffinity(0, size, mask) ? errno : 0;
}

static long set_memory_policy(int mode, const unsigned long *domains, unsigned long count) {
    struct record record;
    unsigned long wanted = domains && count ? domains[0] : 0;
    if (count < BITS && count) wanted &= (1ul << count) - 1;
    if (wanted >> DOMAINS) return errno = EINVAL, -1;
    in_force(thread_id(), &record);
    record.policy = mode, record.domains = wanted;
    return store(thread_id(), &record, 0);
}

static long get_memory_policy(int *mode, unsigned long *domains, unsigned long count, unsigned long flags) {
    struct record record;
    in_force(thread_id(), &record);
    if (mode) *mode = record.policy & ~MODE_FLAGS;
    if (domains && count) {
        memset(domains, 0, (count + BITS - 1) / BITS * sizeof *domains);
        domains[0] = flags & ALLOWED_DOMAINS ? (1ul << DOMAINS) - 1 : record.domains;
    }
    return 0;
}

/* The C library has no functions for memory policies; libnuma and others make the system call itself. */
long syscall(long number, ...) {
    static long (*real)(long, ...);
    long given[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++) given[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_set_mempolicy) return set_memory_policy((int)given[0], (void *)given[1], given[2]);
    if (number == SYS_get_mempolicy && (given[4] & ~ALLOWED_DOMAINS) == 0)
        return get_memory_policy((void *)given[0], (void *)given[1], given[2], given[4]);
    if (number == SYS_sched_setaffinity) return sched_setaffinity((pid_t)given[0], given[1], (void *)given[2]);
    if (number == SYS_sched_getaffinity)
        return sched_getaffinity((pid_t)given[0], given[1], (void *)given[2]) ? -1 : (long)(CPU_WORDS * sizeof(long));
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "syscall");
    return real(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}

static void write_mask(FILE *out, const char *name, const unsigned long *words, int bits) {
    fprintf(out, "%s:\t", name);
    for (int word = (bits + 31) / 32 - 1; word >= 0; word--)
        fprintf(out, "%08lx%s", words[word / 2] >> word % 2 * 32 & 0xffffffff, word ? "," : "\n");
}

/* libnuma, and Slurm with it, learns from this file which CPUs and domains it may use at all. */
static FILE *own_status(FILE *real) {
    struct record record;
    char line[1024];
    unsigned long domains = (1ul << DOMAINS) - 1;
    FILE *shown = tmpfile();
    if (!shown) return real;
    in_force(thread_id(), &record);
    while (fgets(line, sizeof line, real)) {
        if (!strncmp(line, "Cpus_allowed:", 13)) write_mask(shown, "Cpus_allowed", record.cpus, CPUS);
        else if (!strncmp(line, "Mems_allowed:", 13)) write_mask(shown, "Mems_allowed", &domains, DOMAINS);
        else if (!strstr(line, "_allowed_list:")) fputs(line, shown);
    }
    fclose(real);
    rewind(shown);
    return shown;
}

FILE *fopen(const char *path, const char *mode) {
    static FILE *(*real)(const char *, const char *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "fopen");
    FILE *file = real(path, mode);
    return file && !strcmp(path, "/proc/self/status") ? own_status(file) : file;
}

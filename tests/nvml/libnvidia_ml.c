/* A stand-in for NVIDIA's libnvidia-ml.so.1: what an NVML client asks of it, answered from a text file.
 *
 * The file is named by SIMULATED_NVML and read again at every call, so that a test changes a GPU by writing it:
 *
 *     init 0                       the return code of nvmlInit; 9 is "driver not loaded", 18 "driver/library mismatch"
 *     gpu GPU-1111 NVIDIA H100     begins a GPU: uuid, then its name up to the end of the line
 *     slice MIG-1111 NVIDIA MIG    begins a slice (MIG device) of the last GPU, which is in MIG mode then
 *     total 85899345920            bytes; a GPU's keys follow its line
 *     used 21474836480
 *     utilization 87               per cent; also `memory_utilization`
 *     temperature 64               degrees Celsius
 *     power 412500                 milliwatts; also `power_limit`
 *     lost                         every question about this GPU is answered by 15, "GPU is lost"
 *     process 4711 1073741824      pid and bytes; `-` for bytes that the driver doesn't know
 *     graphics 4712 1048576
 *
 * What a GPU's lines don't name is answered by 3, "not supported".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int nvmlReturn_t;
typedef unsigned long long bytes_t;

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, GPU_LOST = 15 };
enum { NO_PARENT = -1 };
enum { MAX_GPUS = 16, MAX_PROCESSES = 128 };
#define NOT_AVAILABLE 0xFFFFFFFFFFFFFFFFULL
#define UNKNOWN (-1LL)

typedef struct {
    unsigned int pid;
    bytes_t used;
    unsigned int gpu_instance, compute_instance;
} process_t;

typedef struct {
    char uuid[96], name[96];
    long long total, used, reserved, utilization, memory_utilization, temperature, power, power_limit;
    int lost, parent;
    process_t compute[MAX_PROCESSES], graphics[MAX_PROCESSES];
    unsigned int compute_count, graphics_count;
} gpu_t;

typedef struct {
    int init, count;
    gpu_t gpus[MAX_GPUS];
} machine_t;

static int started = 0;

static void add_process(process_t *list, unsigned int *count, const char *rest) {
    unsigned int pid;
    char used[32];
    if (*count < MAX_PROCESSES && sscanf(rest, "%u %31s", &pid, used) == 2) {
        process_t process = {pid, used[0] == '-' ? NOT_AVAILABLE : strtoull(used, NULL, 10), 0xFFFFFFFFu, 0xFFFFFFFFu};
        list[(*count)++] = process;
    }
}

/* Where the GPU, or the slice of `parent`, of this number is; -1 if there is none. */
static int place_of(const machine_t *machine, int parent, unsigned int number) {
    for (int place = 0; place < machine->count; place++)
        if (machine->gpus[place].parent == parent && number-- == 0) return place;
    return -1;
}

static unsigned int how_many(const machine_t *machine, int parent) {
    unsigned int count = 0;
    while (place_of(machine, parent, count) >= 0) count++;
    return count;
}

static void read_machine(machine_t *machine) {
    char line[512];
    const char *path = getenv("SIMULATED_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    memset(machine, 0, sizeof *machine);
    if (!file) return;
    while (fgets(line, sizeof line, file)) {
        char key[64];
        int length = 0;
        line[strcspn(line, "\r\n")] = 0;
        if (sscanf(line, "%63s %n", key, &length) != 1) continue;
        const char *rest = line + (length ? length : (int)strlen(line));
        gpu_t *gpu = machine->count ? &machine->gpus[machine->count - 1] : NULL;
        if (!strcmp(key, "init")) machine->init = atoi(rest);
        else if ((!strcmp(key, "gpu") || (gpu && !strcmp(key, "slice"))) && machine->count < MAX_GPUS) {
            int parent = key[0] == 'g' ? NO_PARENT : gpu->parent == NO_PARENT ? machine->count - 1 : gpu->parent;
            gpu = &machine->gpus[machine->count++];
            gpu->parent = parent;
            gpu->total = gpu->used = gpu->utilization = gpu->memory_utilization = UNKNOWN;
            gpu->temperature = gpu->power = gpu->power_limit = UNKNOWN;
            sscanf(rest, "%95s %95[^\n]", gpu->uuid, gpu->name);
        } else if (!gpu) continue;
        else if (!strcmp(key, "total")) gpu->total = atoll(rest);
        else if (!strcmp(key, "used")) gpu->used = atoll(rest);
        else if (!strcmp(key, "reserved")) gpu->reserved = atoll(rest);
        else if (!strcmp(key, "utilization")) gpu->utilization = atoll(rest);
        else if (!strcmp(key, "memory_utilization")) gpu->memory_utilization = atoll(rest);
        else if (!strcmp(key, "temperature")) gpu->temperature = atoll(rest);
        else if (!strcmp(key, "power")) gpu->power = atoll(rest);
        else if (!strcmp(key, "power_limit")) gpu->power_limit = atoll(rest);
        else if (!strcmp(key, "lost")) gpu->lost = 1;
        else if (!strcmp(key, "process")) add_process(gpu->compute, &gpu->compute_count, rest);
        else if (!strcmp(key, "graphics")) add_process(gpu->graphics, &gpu->graphics_count, rest);
    }
    fclose(file);
}

/* A handle is the GPU's index plus one; a machine is read for each question. Clients ask from one thread at a time. */
static machine_t machine;

static nvmlReturn_t find(void *handle, gpu_t **gpu) {
    size_t index = (size_t)handle;
    if (!started) return UNINITIALIZED;
    read_machine(&machine);
    if (index < 1 || index > (size_t)machine.count) return INVALID_ARGUMENT;
    *gpu = &machine.gpus[index - 1];
    return (*gpu)->lost ? GPU_LOST : SUCCESS;
}

static nvmlReturn_t copy_text(const char *from, char *to, unsigned int length) {
    if (strlen(from) + 1 > length) return INSUFFICIENT_SIZE;
    strcpy(to, from);
    return SUCCESS;
}

nvmlReturn_t nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    read_machine(&machine);
    started = machine.init == SUCCESS;
    return machine.init;
}
nvmlReturn_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
nvmlReturn_t nvmlInit(void) { return nvmlInitWithFlags(0); }
nvmlReturn_t nvmlShutdown(void) {
    started = 0;
    return SUCCESS;
}

const char *nvmlErrorString(nvmlReturn_t code) {
    switch (code) {
    case SUCCESS: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case NOT_FOUND: return "Not Found";
    case INSUFFICIENT_SIZE: return "Insufficient Size";
    case 9: return "Driver Not Loaded";
    case GPU_LOST: return "GPU is lost";
    case 18: return "Driver/library version mismatch";
    default: return "Unknown Error";
    }
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length) { return copy_text("575.57.08", version, length); }
nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned int length) { return copy_text("12.575.57.08", version, length); }
nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version) {
    *version = 12090;
    return SUCCESS;
}
nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version) { return nvmlSystemGetCudaDriverVersion(version); }

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) {
    if (!started) return UNINITIALIZED;
    read_machine(&machine);
    *count = how_many(&machine, NO_PARENT);
    return machine.init;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **handle) {
    if (!started) return UNINITIALIZED;
    read_machine(&machine);
    int place = place_of(&machine, NO_PARENT, index);
    if (place < 0) return INVALID_ARGUMENT;
    *handle = (void *)(size_t)(place + 1);
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigMode(void *handle, unsigned int *current, unsigned int *pending) {
    gpu_t *gpu;
    nvmlReturn_t code = find(handle, &gpu);
    if (code) return code;
    if (!how_many(&machine, (int)(size_t)handle - 1)) return NOT_SUPPORTED;
    *current = *pending = 1;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned int *count) {
    (void)handle;
    *count = 7;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned int index, void **slice) {
    gpu_t *gpu;
    nvmlReturn_t code = find(handle, &gpu);
    if (code) return code;
    int place = place_of(&machine, (int)(size_t)handle - 1, index);
    if (place < 0) return NOT_FOUND;
    *slice = (void *)(size_t)(place + 1);
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetIndex(void *handle, unsigned int *index) {
    *index = (unsigned int)((size_t)handle - 1);
    return SUCCESS;
}
nvmlReturn_t nvmlDeviceGetMinorNumber(void *handle, unsigned int *minor) { return nvmlDeviceGetIndex(handle, minor); }

nvmlReturn_t nvmlDeviceGetName(void *handle, char *name, unsigned int length) {
    gpu_t *gpu;
    nvmlReturn_t code = find(handle, &gpu);
    return code ? code : copy_text(gpu->name, name, length);
}

/* A lost GPU still has its name tag: the driver remembers it. */
nvmlReturn_t nvmlDeviceGetUUID(void *handle, char *uuid, unsigned int length) {
    gpu_t *gpu;
    nvmlReturn_t code = find(handle, &gpu);
    return code && code != GPU_LOST ? code : copy_text(gpu->uuid, uuid, length);
}

typedef struct { bytes_t total, free, used; } memory_t;
typedef struct { unsigned int version; bytes_t total, reserved, free, used; } memory_v2_t;

nvmlReturn_t nvmlDeviceGetMemoryInfo(void *handle, memory_t *memory) {
    gpu_t *gpu;
    nvmlReturn_t code = find(handle, &gpu);
    if (code) return code;
    if (gpu->total == UNKNOWN || gpu->used == UNKNOWN) return NOT_SUPPORTED;
    memory->total = (bytes_t)gpu->total;
    memory->used = (bytes_t)(gpu->used + gpu->reserved);
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(void *handle, memory_v2_t *memory) {
    gpu_t *gpu;
    nvmlReturn_t code = find(handle, &gpu);
    if (code) return code;
    if (gpu->total == UNKNOWN || gpu->used == UNKNOWN) return NOT_SUPPORTED;
    memory->total = (bytes_t)gpu->total;
    memory->reserved = (bytes_t)gpu->reserved;
    memory->used = (bytes_t)gpu->used;
    memory->free = memory->total - memory->used - memory->reserved;
    return SUCCESS;
}

typedef struct { unsigned int gpu, memory; } utilization_t;

nvmlReturn_t nvmlDeviceGetUtilizationRates(void *handle, utilization_t *utilization) {
    gpu_t *gpu;
    nvmlReturn_t code = find(handle, &gpu);
    if (code) return code;
    if (gpu->utilization == UNKNOWN) return NOT_SUPPORTED;
    utilization->gpu = (unsigned int)gpu->utilization;
    utilization->memory = (unsigned int)(gpu->memory_utilization == UNKNOWN ? 0 : gpu->memory_utilization);
    return SUCCESS;
}

#define ANSWER(question, field)                                      \
    nvmlReturn_t question(void *handle, unsigned int *value) {       \
        gpu_t *gpu;                                                  \
        nvmlReturn_t code = find(handle, &gpu);                      \
        if (code) return code;                                       \
        if (gpu->field == UNKNOWN) return NOT_SUPPORTED;             \
        *value = (unsigned int)gpu->field;                           \
        return SUCCESS;                                              \
    }
ANSWER(nvmlDeviceGetPowerUsage, power)
ANSWER(nvmlDeviceGetEnforcedPowerLimit, power_limit)
ANSWER(nvmlDeviceGetPowerManagementLimit, power_limit)
ANSWER(ask_temperature, temperature)

nvmlReturn_t nvmlDeviceGetTemperature(void *handle, int sensor, unsigned int *degrees) {
    (void)sensor;
    return ask_temperature(handle, degrees);
}

typedef struct { unsigned int version, sensor; int degrees; } temperature_t;

nvmlReturn_t nvmlDeviceGetTemperatureV(void *handle, temperature_t *temperature) {
    return ask_temperature(handle, (unsigned int *)&temperature->degrees);
}

static nvmlReturn_t copy_processes(const process_t *list, unsigned int have, unsigned int *count, process_t *to) {
    unsigned int room = *count;
    *count = have;
    if (have == 0) return SUCCESS;
    if (room < have || !to) return INSUFFICIENT_SIZE;
    memcpy(to, list, have * sizeof *list);
    return SUCCESS;
}

#define PROCESSES(question, list)                                                        \
    nvmlReturn_t question(void *handle, unsigned int *count, process_t *to) {            \
        gpu_t *gpu;                                                                      \
        nvmlReturn_t code = find(handle, &gpu);                                          \
        return code ? code : copy_processes(gpu->list, gpu->list##_count, count, to);    \
    }
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, compute)
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2, compute)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, graphics)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2, graphics)

/* Without a version: as in drivers before 450. */
typedef struct {
    unsigned int pid;
    bytes_t used;
} first_process_t;

static nvmlReturn_t copy_first_processes(const process_t *list, unsigned int have, unsigned int *count, first_process_t *to) {
    unsigned int room = *count;
    *count = have;
    if (have == 0) return SUCCESS;
    if (room < have || !to) return INSUFFICIENT_SIZE;
    for (unsigned int each = 0; each < have; each++) {
        to[each].pid = list[each].pid;
        to[each].used = list[each].used;
    }
    return SUCCESS;
}

#define FIRST_PROCESSES(question, list)                                                       \
    nvmlReturn_t question(void *handle, unsigned int *count, first_process_t *to) {           \
        gpu_t *gpu;                                                                           \
        nvmlReturn_t code = find(handle, &gpu);                                               \
        return code ? code : copy_first_processes(gpu->list, gpu->list##_count, count, to);   \
    }
FIRST_PROCESSES(nvmlDeviceGetComputeRunningProcesses, compute)
FIRST_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses, graphics)

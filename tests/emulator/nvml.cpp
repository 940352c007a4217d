// libnvidia-ml: one device that draws a steady power.
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "machine.h"

namespace emulator {
namespace {

enum Nvml { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };

constexpr unsigned POWER_MW = 250000, POWER_LIMIT_MW = 700000;
const char UUID[] = "GPU-656d756c-6174-6564-2067-707520303030";  // the bytes of cuDeviceGetUuid_v2

int uses = 0;
char device;

Nvml check(const void* handle, const void* result) {
  if (!uses) return UNINITIALIZED;
  return handle == &device && result ? SUCCESS : INVALID_ARGUMENT;
}

Nvml give(const void* handle, unsigned* to, unsigned value) {
  Gate gate;
  if (const Nvml s = check(handle, to)) return s;
  *to = value;
  return SUCCESS;
}

Nvml give_text(char* to, unsigned length, const char* text) {
  if (length <= strlen(text)) return INSUFFICIENT_SIZE;
  memcpy(to, text, strlen(text) + 1);
  return SUCCESS;
}

Nvml give_reasons(const void* handle, unsigned long long* reasons) {
  Gate gate;
  if (const Nvml s = check(handle, reasons)) return s;
  *reasons = 0;
  return SUCCESS;
}

struct FieldValue {
  unsigned field, scope;
  long long at_us, took_us;
  int type, status;
  unsigned long long value;
};

constexpr unsigned POWER_INSTANT = 186;
constexpr int UNSIGNED_INT = 1;

struct ProcessInfo {
  unsigned pid;
  unsigned long long bytes;
  unsigned gpu_instance, compute_instance;
};

}  // namespace
}  // namespace emulator

using namespace emulator;

EXPORT int nvmlInit_v2() {
  Gate gate;
  ++uses;
  return SUCCESS;
}

EXPORT int nvmlShutdown() {
  Gate gate;
  if (!uses) return UNINITIALIZED;
  --uses;
  return SUCCESS;
}

EXPORT const char* nvmlErrorString(int result) {
  switch (result) {
    case SUCCESS: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_FOUND: return "Not Found";
    case INSUFFICIENT_SIZE: return "Insufficient Size";
    default: return "Unknown Error";
  }
}

EXPORT int nvmlSystemGetDriverVersion(char* to, unsigned length) {
  Gate gate;
  if (!uses) return UNINITIALIZED;
  return to ? give_text(to, length, "580.65.06") : INVALID_ARGUMENT;
}

EXPORT int nvmlDeviceGetCount_v2(unsigned* count) {
  Gate gate;
  if (const Nvml s = check(&device, count)) return s;
  *count = 1;
  return SUCCESS;
}

EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** handle) {
  Gate gate;
  if (const Nvml s = check(&device, handle)) return s;
  if (index != 0) return INVALID_ARGUMENT;
  *handle = &device;
  return SUCCESS;
}

EXPORT int nvmlDeviceGetHandleByUUID(const char* uuid, void** handle) {
  Gate gate;
  if (const Nvml s = check(&device, handle)) return s;
  if (!uuid) return INVALID_ARGUMENT;
  if (strcmp(uuid, UUID) != 0) return NOT_FOUND;
  *handle = &device;
  return SUCCESS;
}

EXPORT int nvmlDeviceGetName(void* handle, char* to, unsigned length) {
  Gate gate;
  if (const Nvml s = check(handle, to)) return s;
  return give_text(to, length, "Emulated GPU");
}

EXPORT int nvmlDeviceGetPowerUsage(void* handle, unsigned* mw) { return give(handle, mw, POWER_MW); }
EXPORT int nvmlDeviceGetEnforcedPowerLimit(void* handle, unsigned* mw) { return give(handle, mw, POWER_LIMIT_MW); }

EXPORT int nvmlDeviceGetTotalEnergyConsumption(void* handle, unsigned long long* mj) {
  Gate gate;
  if (const Nvml s = check(handle, mj)) return s;
  *mj = 1000000 + static_cast<unsigned long long>(now_ns() / 1000000) * (POWER_MW / 1000);
  return SUCCESS;
}

/// Each value has a status of its own: a field that is not known does not spoil the others.
EXPORT int nvmlDeviceGetFieldValues(void* handle, int count, FieldValue* values) {
  Gate gate;
  if (const Nvml s = check(handle, values)) return s;
  for (int i = 0; i < count; ++i) {
    const bool known = values[i].field == POWER_INSTANT;
    values[i].at_us = static_cast<long long>(now_ns() / 1000);
    values[i].took_us = 0;
    values[i].type = UNSIGNED_INT;
    values[i].status = known ? SUCCESS : INVALID_ARGUMENT;
    values[i].value = known ? POWER_MW : 0;
  }
  return SUCCESS;
}

EXPORT int nvmlDeviceGetClockInfo(void* handle, int type, unsigned* mhz) {
  if (type < 0 || type > 3) return INVALID_ARGUMENT;
  return give(handle, mhz, type == 2 ? 2000 : 1500);
}

EXPORT int nvmlDeviceGetTemperature(void* handle, int sensor, unsigned* celsius) { return sensor ? INVALID_ARGUMENT : give(handle, celsius, 45); }

EXPORT int nvmlDeviceGetCurrentClocksEventReasons(void* handle, unsigned long long* reasons) { return give_reasons(handle, reasons); }
EXPORT int nvmlDeviceGetCurrentClocksThrottleReasons(void* handle, unsigned long long* reasons) { return give_reasons(handle, reasons); }

EXPORT int nvmlDeviceGetMigMode(void* handle, unsigned* current, unsigned* pending) {
  if (const int s = give(handle, pending, 0)) return s;
  return give(handle, current, 0);
}

/// This process is the only one on the device.
EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(void* handle, unsigned* count, ProcessInfo* all) {
  Gate gate;
  if (const Nvml s = check(handle, count)) return s;
  const unsigned room = *count;
  *count = 1;
  if (room == 0) return INSUFFICIENT_SIZE;
  if (!all) return INVALID_ARGUMENT;
  size_t free = 0, total = 0;
  free_memory(&free, &total);
  all[0] = ProcessInfo{unsigned(getpid()), total - free, 0xFFFFFFFFu, 0xFFFFFFFFu};
  return SUCCESS;
}

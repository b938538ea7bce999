// A PrivateUse1 device for tests: two accelerators in host memory.
//
// A tensor's address lies in a window that nobody may read: an empty file, mapped without any permission. What it holds lies at
// a fixed distance from there, where only the kernels below look. All operations but copies run on the CPU (`cpu_fallback`).
// The allocator counts as torch's caching allocator does: rounding to 512 bytes, segments of 2 MiB, a cache of freed blocks.

#include <ATen/ATen.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <sys/mman.h>
#include <torch/library.h>

#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <unordered_map>

namespace {

constexpr int kDevices = 2;
constexpr size_t kWindow = size_t(64) << 30;  // addresses of both devices together; only what is written to takes memory
constexpr size_t kRound = 512, kSegment = size_t(2) << 20, kSmall = size_t(1) << 20;
const auto kType = c10::DeviceType::PrivateUse1;

thread_local c10::DeviceIndex current_device = 0;
thread_local c10::StreamId current_stream[kDevices] = {};
std::atomic<int64_t> streams_made{1};

enum Counter { kCopiesToHost, kBytesToHost, kCopiesToDevice, kOperations, kSynchronisations, kStreams, kDriverAllocations, kCounters };
std::atomic<int64_t> counters[kCounters] = {};

struct Segment {
  char* start = nullptr;
  size_t size = 0, used = 0, live = 0;
  int64_t pool = 0;  // 0 is the one for all; others are private, as those of CUDA graphs
};

struct Block {
  size_t size;
  char* segment;
  bool live = true;
};

struct Stats {
  int64_t allocated = 0, allocated_peak = 0, allocated_ever = 0, freed_ever = 0;
  int64_t reserved = 0, reserved_peak = 0, ooms = 0, retries = 0;
};

struct Memory {
  std::mutex lock;
  char* window = nullptr;
  char* backing = nullptr;
  size_t next = 0;
  bool used = false;
  int64_t pool = 0;  // that is allocated from
  size_t total[kDevices] = {size_t(8) << 30, size_t(8) << 30};
  Stats stats[kDevices];
  std::multimap<size_t, char*> addresses;  // of released segments, by size
  std::map<char*, Segment> segments[kDevices];
  std::multimap<size_t, char*> cached[kDevices];
  std::unordered_map<char*, Block> blocks;  // live and cached ones

  void open() {
    if (window != nullptr) return;
    const int empty = memfd_create("simulated device", MFD_CLOEXEC);
    window = static_cast<char*>(mmap(nullptr, kWindow, PROT_NONE, MAP_SHARED | MAP_NORESERVE, empty, 0));
    close(empty);
    backing = static_cast<char*>(
        mmap(nullptr, kWindow, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    TORCH_CHECK(window != MAP_FAILED && backing != MAP_FAILED, "the simulated device has no memory");
    used = true;
  }

  char* host(const void* address) { return backing + (static_cast<const char*>(address) - window); }

  char* segment(int device, size_t size) {
    auto& stat = stats[device];
    if (stat.reserved + size > total[device]) return nullptr;
    char* start;
    auto found = addresses.find(size);
    if (found != addresses.end()) {
      start = found->second;
      addresses.erase(found);
    } else {
      TORCH_CHECK(next + size <= kWindow, "the simulated device has no addresses left");
      start = window + next;
      next += size;
    }
    counters[kDriverAllocations]++;
    segments[device][start] = Segment{start, size, 0, 0, pool};
    stat.reserved += size;
    stat.reserved_peak = std::max(stat.reserved_peak, stat.reserved);
    return start;
  }

  void empty_cache(int device) {
    for (auto one = segments[device].begin(); one != segments[device].end();) {
      auto& segment = one->second;
      if (segment.live != 0 || segment.pool != 0) {
        ++one;
        continue;
      }
      for (auto block = cached[device].begin(); block != cached[device].end();) {
        if (blocks.at(block->second).segment == segment.start) {
          blocks.erase(block->second);
          block = cached[device].erase(block);
        } else {
          ++block;
        }
      }
      madvise(host(segment.start), segment.size, MADV_DONTNEED);
      stats[device].reserved -= segment.size;
      addresses.emplace(segment.size, segment.start);
      one = segments[device].erase(one);
    }
  }

  char* from_segment(int device, size_t size) {
    if (size <= kSmall) {
      for (auto& one : segments[device]) {
        auto& segment = one.second;
        if (segment.pool == pool && segment.size == kSegment && segment.used + size <= segment.size) {
          char* start = segment.start + segment.used;
          segment.used += size;
          blocks[start] = Block{size, segment.start};
          return start;
        }
      }
    }
    const size_t wanted = (size + kSegment - 1) / kSegment * kSegment;
    char* start = segment(device, wanted);
    if (start == nullptr) return nullptr;
    segments[device][start].used = size <= kSmall ? size : wanted;
    blocks[start] = Block{size, start};
    return start;
  }

  void* allocate(int device, size_t wanted) {
    const std::lock_guard<std::mutex> guard(lock);
    open();
    auto& stat = stats[device];
    const size_t size = (wanted + kRound - 1) / kRound * kRound;
    char* start = nullptr;
    auto found = cached[device].find(size);
    while (found != cached[device].end() && found->first == size &&
           segments[device].at(blocks.at(found->second).segment).pool != pool) {
      ++found;
    }
    if (found != cached[device].end() && found->first == size) {
      start = found->second;
      cached[device].erase(found);
    } else {
      start = from_segment(device, size);
      if (start == nullptr) {
        stat.retries++;
        empty_cache(device);
        start = from_segment(device, size);
      }
    }
    if (start == nullptr) {
      stat.ooms++;
      C10_THROW_ERROR(OutOfMemoryError, c10::str("simulated device out of memory. Tried to allocate ", wanted, " bytes."));
    }
    blocks.at(start).live = true;
    segments[device].at(blocks.at(start).segment).live++;
    stat.allocated += size;
    stat.allocated_ever += size;
    stat.allocated_peak = std::max(stat.allocated_peak, stat.allocated);
    return start;
  }

  void release(int device, char* start) {
    const std::lock_guard<std::mutex> guard(lock);
    auto& block = blocks.at(start);
    block.live = false;
    segments[device].at(block.segment).live--;
    stats[device].allocated -= block.size;
    stats[device].freed_ever += block.size;
    cached[device].emplace(block.size, start);
  }
};

Memory& memory() {
  static Memory* one = new Memory;  // never destroyed: storages may outlive everything
  return *one;
}

template <int device>
void free_on(void* start) {
  if (start != nullptr) memory().release(device, static_cast<char*>(start));
}

void fill(c10::CachingAllocator::Stat& stat, int64_t current, int64_t peak, int64_t allocated, int64_t freed) {
  stat.current = current;
  stat.peak = peak;
  stat.allocated = allocated;
  stat.freed = freed;
}

struct SimulatedAllocator final : c10::DeviceAllocator {
  c10::DataPtr allocate(size_t size) override {
    const auto device = current_device;
    void* start = size == 0 ? nullptr : memory().allocate(device, size);
    return {start, start, device == 0 ? &free_on<0> : &free_on<1>, c10::Device(kType, device)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, size_t size) const override {
    std::memcpy(memory().host(to), memory().host(from), size);
  }
  bool initialized() override { return memory().used; }
  void emptyCache(c10::MempoolId_t = {0, 0}) override {
    const std::lock_guard<std::mutex> guard(memory().lock);
    for (int device = 0; device < kDevices; device++) memory().empty_cache(device);
  }
  void recordStream(const c10::DataPtr&, c10::Stream) override {}
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex device) override {
    const std::lock_guard<std::mutex> guard(memory().lock);
    const auto& stats = memory().stats[device];
    c10::CachingDeviceAllocator::DeviceStats found;
    fill(found.allocated_bytes[0], stats.allocated, stats.allocated_peak, stats.allocated_ever, stats.freed_ever);
    fill(found.reserved_bytes[0], stats.reserved, stats.reserved_peak, stats.reserved_peak, 0);
    found.num_ooms = stats.ooms;
    found.num_alloc_retries = stats.retries;
    return found;
  }
  void resetAccumulatedStats(c10::DeviceIndex device) override {
    memory().stats[device].allocated_ever = memory().stats[device].freed_ever = 0;
  }
  void resetPeakStats(c10::DeviceIndex device) override {
    memory().stats[device].allocated_peak = memory().stats[device].allocated;
    memory().stats[device].reserved_peak = memory().stats[device].reserved;
  }
  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex device) override {
    return {memory().total[device] - memory().stats[device].reserved, memory().total[device]};
  }
};

SimulatedAllocator allocator;
REGISTER_ALLOCATOR(kType, &allocator);

struct SimulatedGuard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kType; }
  c10::Device exchangeDevice(c10::Device device) const override {
    const c10::Device before(kType, current_device);
    setDevice(device);
    return before;
  }
  c10::Device getDevice() const override { return c10::Device(kType, current_device); }
  void setDevice(c10::Device device) const override {
    if (!device.has_index()) return;
    TORCH_CHECK(device.index() >= 0 && device.index() < kDevices, "invalid device ordinal");
    current_device = device.index();
  }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    if (device.has_index()) current_device = device.index();
  }
  c10::Stream getStream(c10::Device device) const override {
    const auto index = device.has_index() ? device.index() : current_device;
    return c10::Stream(c10::Stream::UNSAFE, c10::Device(kType, index), current_stream[index]);
  }
  c10::Stream getDefaultStream(c10::Device device) const override { return c10::Stream(c10::Stream::DEFAULT, device); }
  c10::Stream getNewStream(c10::Device device, int = 0) const override {
    counters[kStreams]++;
    const auto index = device.has_index() ? device.index() : current_device;
    return c10::Stream(c10::Stream::UNSAFE, c10::Device(kType, index), streams_made++);
  }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool = false) const override { return getNewStream(device); }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    const auto before = getStream(stream.device());
    current_stream[stream.device().index()] = stream.id();
    return before;
  }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
  void record(void** event, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {
    *event = reinterpret_cast<void*>(1);
  }
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override { counters[kSynchronisations]++; }
  void synchronizeEvent(void*) const override { counters[kSynchronisations]++; }
  void synchronizeDevice(const c10::DeviceIndex) const override { counters[kSynchronisations]++; }
  c10::DeviceIndex deviceCount() const noexcept override { return kDevices; }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, SimulatedGuard);

struct SimulatedHooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return memory().used; }
  c10::DeviceIndex deviceCount() const override { return kDevices; }
  void setCurrentDevice(c10::DeviceIndex index) const override { current_device = index; }
  c10::DeviceIndex getCurrentDevice() const override { return current_device; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex index) const override {
    const auto before = current_device;
    current_device = index;
    return before;
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex index) const override { return exchangeDevice(index); }
  c10::Allocator* getPinnedMemoryAllocator() const override { return c10::GetAllocator(c10::DeviceType::CPU); }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    return at::globalContext().defaultGenerator(c10::DeviceType::CPU);
  }
  at::Generator getNewGenerator(c10::DeviceIndex) const override {
    return at::globalContext().defaultGenerator(c10::DeviceType::CPU).clone();
  }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t size) const override {
    const c10::DeviceGuard guard(storage.device());
    auto fresh = allocator.allocate(size);
    const auto kept = std::min(size, storage.nbytes());
    if (kept != 0) allocator.copy_data(fresh.get(), storage.data(), kept);
    storage.unsafeGetStorageImpl()->set_data_ptr_noswap(std::move(fresh));
    storage.unsafeGetStorageImpl()->set_nbytes(size);
  }
};

// The same elements as a tensor on the CPU, which must not live longer.
at::Tensor on_host(const at::Tensor& tensor) {
  if (tensor.device().type() != kType) return tensor;
  const auto options = tensor.options().device(c10::DeviceType::CPU).requires_grad(false);
  if (tensor.numel() == 0) return at::empty(tensor.sizes(), options);
  auto found = at::from_blob(memory().host(tensor.const_data_ptr()), tensor.sizes(), tensor.strides(), options);
  found._set_conj(tensor.is_conj());
  found._set_neg(tensor.is_neg());
  return found;
}

at::Tensor copy_from(const at::Tensor& self, const at::Tensor& to, bool) {
  if (self.device().type() == kType && to.device().type() != kType) {
    counters[kCopiesToHost]++;
    counters[kBytesToHost] += self.nbytes();
  }
  if (to.device().type() == kType) counters[kCopiesToDevice]++;
  on_host(to).copy_(on_host(self));
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& self, const at::Tensor& to) {
  at::native::resize_(to, self.sizes(), std::nullopt);
  return copy_from(self, to, false);
}

at::Tensor empty_strided(
    c10::IntArrayRef sizes, c10::IntArrayRef strides, std::optional<c10::ScalarType> dtype, std::optional<c10::Layout>,
    std::optional<c10::Device> device, std::optional<bool>) {
  const c10::DeviceGuard guard(device.value_or(c10::Device(kType, current_device)));
  return at::detail::empty_strided_generic(
      sizes, strides, &allocator, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
      dtype.value_or(c10::get_default_dtype_as_scalartype()));
}

at::Tensor empty(
    c10::IntArrayRef sizes, std::optional<c10::ScalarType> dtype, std::optional<c10::Layout>, std::optional<c10::Device> device,
    std::optional<bool>, std::optional<c10::MemoryFormat> format) {
  const c10::DeviceGuard guard(device.value_or(c10::Device(kType, current_device)));
  return at::detail::empty_generic(
      sizes, &allocator, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
      dtype.value_or(c10::get_default_dtype_as_scalartype()), format);
}

at::Scalar local_scalar_dense(const at::Tensor& self) {
  counters[kCopiesToHost]++;
  return at::native::_local_scalar_dense_cpu(on_host(self));
}

at::Tensor& set_source_tensor(at::Tensor& self, const at::Tensor& source) { return at::native::set_tensor_(self, source); }

at::Tensor& set_source_storage(at::Tensor& self, at::Storage source) { return at::native::set_(self, std::move(source)); }

at::Tensor& set_source_storage_offset(
    at::Tensor& self, at::Storage source, int64_t offset, c10::IntArrayRef sizes, c10::IntArrayRef strides) {
  return at::native::set_storage_cpu_(self, std::move(source), offset, sizes, strides);
}

const at::Tensor& resize(const at::Tensor& self, c10::SymIntArrayRef sizes, std::optional<c10::MemoryFormat> format) {
  return at::native::resize_(self, C10_AS_INTARRAYREF_SLOW(sizes), format);
}

int64_t fused_sdp_choice(
    const at::Tensor&, const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, double, bool,
    std::optional<double>, bool) {
  return 0;  // computed from plain operations
}

void record_stream(at::Tensor&, at::Stream) {}

at::Tensor convolution(
    const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias, c10::SymIntArrayRef stride,
    c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation, bool transposed, c10::SymIntArrayRef output_padding,
    c10::SymInt groups) {
  const auto host_bias = bias.has_value() && bias->defined() ? std::optional<at::Tensor>(on_host(*bias)) : std::nullopt;
  return at::convolution_symint(
             on_host(input), on_host(weight), host_bias, stride, padding, dilation, transposed, output_padding, groups)
      .to(input.device());
}

void fall_back(const c10::OperatorHandle& operation, torch::jit::Stack* stack) {
  counters[kOperations]++;
  at::native::cpu_fallback(operation, stack);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("as_strided", at::native::as_strided_tensorimpl);
  m.impl("view", at::native::view);
  m.impl("_reshape_alias", at::native::_reshape_alias);
  m.impl("resize_", resize);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("_local_scalar_dense", local_scalar_dense);
  m.impl("set_.source_Tensor", set_source_tensor);
  m.impl("set_.source_Storage", set_source_storage);
  m.impl("set_.source_Storage_storage_offset", set_source_storage_offset);
  m.impl("_fused_sdp_choice", fused_sdp_choice);
  m.impl("record_stream", record_stream);
  m.impl("convolution_overrideable", convolution);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&fall_back>()); }

}  // namespace

extern "C" {

void simulated_register() {
  static SimulatedHooks hooks;
  at::RegisterPrivateUse1HooksInterface(&hooks);
}

int simulated_current_device() { return current_device; }
void simulated_set_device(int index) { current_device = static_cast<c10::DeviceIndex>(index); }
int simulated_is_initialized() { return memory().used; }
void simulated_empty_cache(int device) {
  const std::lock_guard<std::mutex> guard(memory().lock);
  memory().empty_cache(device);
}
void simulated_set_total(int device, int64_t size) { memory().total[device] = static_cast<size_t>(size); }
int64_t simulated_total(int device) { return static_cast<int64_t>(memory().total[device]); }
int64_t simulated_counter(int number) { return counters[number]; }

void simulated_use_pool(int64_t pool) { memory().pool = pool; }

// Rows of six numbers: segment, its size, its pool, block, its size, whether it is live. Returns how many rows there are.
int64_t simulated_blocks(int device, int64_t* to, int64_t most) {
  const std::lock_guard<std::mutex> guard(memory().lock);
  int64_t count = 0;
  for (const auto& [start, block] : memory().blocks) {
    const auto segment = memory().segments[device].find(block.segment);
    if (segment == memory().segments[device].end()) continue;
    if (count < most) {
      const int64_t row[] = {reinterpret_cast<int64_t>(segment->second.start), static_cast<int64_t>(segment->second.size),
                             segment->second.pool, reinterpret_cast<int64_t>(start), static_cast<int64_t>(block.size), block.live};
      std::memcpy(to + 6 * count, row, sizeof(row));
    }
    count++;
  }
  return count;
}

void simulated_stats(int device, int64_t* to) {
  const std::lock_guard<std::mutex> guard(memory().lock);
  const auto& stats = memory().stats[device];
  const int64_t found[] = {stats.allocated, stats.allocated_peak, stats.allocated_ever, stats.freed_ever,
                           stats.reserved,  stats.reserved_peak,  stats.ooms,           stats.retries};
  std::memcpy(to, found, sizeof(found));
}
}

#include "base/arrow.hpp"

#include <cerrno>
#include <exception>
#include <new>

namespace edgecore {
namespace {

// What a given-away struct holds until it is released; its children's structs stand here, their
// contents may have been moved elsewhere.
struct HeldSchema {
  std::string format;
  std::string name;
  std::string metadata;
  std::vector<ArrowSchema> children;
  std::vector<ArrowSchema*> pointers;
  ArrowSchema dictionary{};
};

struct HeldArray {
  std::vector<std::shared_ptr<const void>> owners;
  std::vector<const void*> buffers;
  std::vector<ArrowArray> children;
  std::vector<ArrowArray*> pointers;
  ArrowArray dictionary{};
};

template <typename Struct, typename Held>
void release_held(Struct* out) {
  auto* held = static_cast<Held*>(out->private_data);
  for (Struct& child : held->children)
    if (child.release != nullptr) child.release(&child);
  if (held->dictionary.release != nullptr) held->dictionary.release(&held->dictionary);
  out->release = nullptr;
  out->private_data = nullptr;
  delete held;
}

// Numbers of entries and lengths are 32 bits, in the machine's order.
void put_int(std::string& out, std::size_t value) {
  const auto number = static_cast<std::int32_t>(value);
  out.append(reinterpret_cast<const char*>(&number), sizeof number);
}

std::string encode(const ArrowMetadata& metadata) {
  std::string out;
  if (metadata.empty()) return out;
  put_int(out, metadata.size());
  for (const auto& [key, value] : metadata) {
    put_int(out, key.size());
    out += key;
    put_int(out, value.size());
    out += value;
  }
  return out;
}

// Children are made in place and known to the holder one by one: should memory end half-way, what
// was made is let go.
template <typename Struct, typename Held, typename Parts, typename Make>
void hold_parts(Held& held, const Parts& parts, Make make) {
  held.children.resize(parts.children.size());
  for (std::size_t i = 0; i < held.children.size(); ++i) {
    make(parts.children[i], held.children[i]);
    held.pointers.push_back(&held.children[i]);
  }
  if (parts.dictionary != nullptr) make(*parts.dictionary, held.dictionary);
}

template <typename Struct, typename Held>
struct Unfinished {  // releases what was made unless it comes to its end
  explicit Unfinished(Struct& out) : out_(&out) {
    auto held = std::make_unique<Held>();
    out = {};
    out.private_data = held.release();
    out.release = release_held<Struct, Held>;
  }
  ~Unfinished() {
    if (out_ != nullptr) out_->release(out_);
  }
  Unfinished(const Unfinished&) = delete;
  Unfinished& operator=(const Unfinished&) = delete;
  Held& held() { return *static_cast<Held*>(out_->private_data); }
  void finish() { out_ = nullptr; }

 private:
  Struct* out_;
};

// ---------------------------------------------------------------- streams

struct HeldStream {
  std::unique_ptr<ArrowSource> source;
  std::string error;
};

int errno_of(const Status& status) {
  switch (status.outcome()) {
    case Outcome::kInvalid:
    case Outcome::kIncompatible:
      return EINVAL;
    case Outcome::kExhausted:
      return ENOMEM;
    default:
      return EIO;
  }
}

// Runs a callback's work; whatever goes wrong is told by number and text.
template <typename Work>
int guarded(ArrowArrayStream* stream, Work work) {
  auto* held = static_cast<HeldStream*>(stream->private_data);
  try {
    const Status status = work(*held);
    if (status.is_ok()) return 0;
    held->error = status.to_string();
    return errno_of(status);
  } catch (const std::bad_alloc&) {
    held->error = "Exhausted: no memory";
    return ENOMEM;
  } catch (const std::exception&) {
    held->error = "Unavailable: the stream failed";
    return EIO;
  }
}

int get_schema(ArrowArrayStream* stream, ArrowSchema* out) {
  out->release = nullptr;
  return guarded(stream, [&](HeldStream& held) {
    export_schema(held.source->type(), *out);
    return Status::ok();
  });
}

int get_next(ArrowArrayStream* stream, ArrowArray* out) {
  out->release = nullptr;
  return guarded(stream, [&](HeldStream& held) -> Status {
    ArrowData data;
    EDGECORE_ASSIGN(const bool more, held.source->next(data));
    if (more) export_array(data, *out);
    return Status::ok();
  });
}

const char* get_last_error(ArrowArrayStream* stream) {
  const auto* held = static_cast<const HeldStream*>(stream->private_data);
  return held->error.empty() ? nullptr : held->error.c_str();
}

void release_stream(ArrowArrayStream* stream) {
  delete static_cast<HeldStream*>(stream->private_data);
  stream->private_data = nullptr;
  stream->release = nullptr;
}

}  // namespace

void export_schema(const ArrowType& type, ArrowSchema& out) {
  Unfinished<ArrowSchema, HeldSchema> made(out);
  HeldSchema& held = made.held();
  held.format = type.format;
  held.name = type.name;
  held.metadata = encode(type.metadata);
  hold_parts<ArrowSchema>(held, type, export_schema);
  out.format = held.format.c_str();
  out.name = held.name.c_str();
  out.metadata = held.metadata.empty() ? nullptr : held.metadata.data();
  out.flags = kArrowNullable;
  out.n_children = static_cast<std::int64_t>(held.children.size());
  out.children = held.pointers.data();
  out.dictionary = held.dictionary.release == nullptr ? nullptr : &held.dictionary;
  made.finish();
}

void export_array(const ArrowData& data, ArrowArray& out) {
  Unfinished<ArrowArray, HeldArray> made(out);
  HeldArray& held = made.held();
  held.owners = data.buffers;
  for (const auto& buffer : held.owners) held.buffers.push_back(buffer.get());
  hold_parts<ArrowArray>(held, data, export_array);
  out.length = data.length;
  out.null_count = data.null_count;
  out.n_buffers = static_cast<std::int64_t>(held.buffers.size());
  out.buffers = held.buffers.data();
  out.n_children = static_cast<std::int64_t>(held.children.size());
  out.children = held.pointers.data();
  out.dictionary = held.dictionary.release == nullptr ? nullptr : &held.dictionary;
  made.finish();
}

void export_stream(std::unique_ptr<ArrowSource> source, ArrowArrayStream& out) {
  auto held = std::make_unique<HeldStream>();
  held->source = std::move(source);
  out = {get_schema, get_next, get_last_error, release_stream, held.release()};
}

}  // namespace edgecore

// A Cipher for tests alone: it hides nothing from anybody, but keeps the seam's contract, and sees
// whether the log keeps its own. Keys differ by a count; a nonce that comes twice is an error.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>
#include <set>

#include "base/blake3.hpp"
#include "base/cipher.hpp"

namespace edgecore {

class ToyCipher : public Cipher {
 public:
  // `device` stands for the device key. Keys go on counting over ciphers of one `first`.
  explicit ToyCipher(std::uint8_t device = 1) : device_(device) {}

  std::uint16_t id() const override { return kChaCha20Poly1305; }

  Result<Bytes> make_key(ByteSpan context) override {
    if (fail_) return Status::unavailable("toy cipher: told to fail");
    static std::atomic<std::uint64_t> count{1};
    Bytes wrapped;
    ByteWriter writer(wrapped);
    writer.put(device_);
    writer.put(count++);
    writer.put_bytes(blake3(context));
    return wrapped;
  }

  Result<std::shared_ptr<CipherKey>> open_key(std::uint16_t id, ByteSpan wrapped,
                                              ByteSpan context) override {
    if (id != this->id() || wrapped.size() != 9 + 32 ||
        load_le<std::uint8_t>(wrapped.data()) != device_)
      return Status::untrusted("wrapped by another device key");
    const Digest bound = blake3(context);
    if (!std::equal(bound.begin(), bound.end(), wrapped.begin() + 9))
      return Status::untrusted("wrapped for another use");
    return std::shared_ptr<CipherKey>(
        std::make_shared<Key>(*this, load_le<std::uint64_t>(wrapped.data() + 1)));
  }

  void fail(bool now) { fail_ = now; }
  std::size_t encrypted() const { return used_.size(); }

 private:
  class Key : public CipherKey {
   public:
    Key(ToyCipher& cipher, std::uint64_t number) : cipher_(cipher), number_(number) {}

    Status seal(const Nonce& nonce, ByteSpan associated, ByteSpan plain,
                std::span<std::byte> out) override {
      if (cipher_.fail_) return Status::unavailable("toy cipher: told to fail");
      EXPECT_EQ(out.size(), plain.size() + kTagBytes);
      {
        const std::lock_guard guard(cipher_.mutex_);
        EXPECT_TRUE(cipher_.used_.emplace(number_, nonce).second)
            << "key " << number_ << " gets a nonce twice";
      }
      const std::size_t size = plain.size();
      mask(nonce, plain, out);
      put_tag(nonce, associated, out.first(size), out.data() + size);
      return Status::ok();
    }

    Status open(const Nonce& nonce, ByteSpan associated, ByteSpan encrypted,
                std::span<std::byte> out) override {
      if (cipher_.fail_) return Status::unavailable("toy cipher: told to fail");
      const ByteSpan hidden = encrypted.first(encrypted.size() - kTagBytes);
      std::array<std::byte, kTagBytes> tag{};
      put_tag(nonce, associated, hidden, tag.data());
      if (!std::equal(tag.begin(), tag.end(), encrypted.end() - kTagBytes))
        return Status::untrusted("toy cipher: not what was encrypted");
      mask(nonce, hidden, out);
      return Status::ok();
    }

   private:
    Digest stream(const Nonce& nonce, std::uint64_t at) const {
      Bytes seed;
      ByteWriter writer(seed);
      writer.put(number_);
      writer.put_bytes(nonce);
      writer.put(at);
      return blake3(seed);
    }

    void mask(const Nonce& nonce, ByteSpan in, std::span<std::byte> out) const {
      Digest pad{};
      for (std::size_t i = 0; i < in.size(); ++i) {
        if (i % pad.size() == 0) pad = stream(nonce, i / pad.size());
        out[i] = in[i] ^ pad[i % pad.size()];
      }
    }

    void put_tag(const Nonce& nonce, ByteSpan associated, ByteSpan hidden, std::byte* out) const {
      Blake3 hash;
      hash.update(stream(nonce, ~std::uint64_t{0}));
      hash.update(associated);
      hash.update(hidden);
      const Digest tag = hash.finish();
      std::memcpy(out, tag.data(), kTagBytes);
    }

    ToyCipher& cipher_;
    std::uint64_t number_;
  };

  std::uint8_t device_;
  std::atomic<bool> fail_ = false;
  std::mutex mutex_;  // guards used_
  std::set<std::pair<std::uint64_t, Nonce>> used_;
};

}  // namespace edgecore

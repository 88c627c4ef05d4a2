"""cpp/bindings/bind_log.cpp."""

"""cpp/bindings/bind_inference.cpp."""

"""cpp/bindings/bind_learning.cpp."""

"""cpp/bindings/bind_features.cpp."""

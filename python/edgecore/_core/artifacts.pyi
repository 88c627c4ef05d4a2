"""cpp/bindings/bind_artifacts.cpp."""

"""cpp/bindings/bind_pipeline.cpp."""

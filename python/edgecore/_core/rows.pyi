"""cpp/bindings/bind_rows.cpp."""

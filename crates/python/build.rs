//! Gives this crate the `Py_3_xx` cfgs of the interpreter it is built for.
fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}

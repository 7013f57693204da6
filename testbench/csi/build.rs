//! Makes Rust of the protocols, without `protoc`.

use anyhow::Result;

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    // Their comments are indented in ways that look like tests in our language: they stay behind.
    compiler.include_source_info(false).include_imports(true);
    compiler.open_files(["csi.proto", "pluginregistration.proto"])?;
    tonic_prost_build::configure().compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

//! The protocols, as generated from `proto/`.

/// The Container Storage Interface.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, reason = "generated")]
#[allow(clippy::pedantic, clippy::too_many_lines, clippy::large_enum_variant)]
pub mod csi {
    tonic::include_proto!("csi.v1");
}

/// How kubelet finds a driver.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, reason = "generated")]
#[allow(clippy::pedantic, clippy::too_many_lines)]
pub mod registration {
    tonic::include_proto!("pluginregistration");
}

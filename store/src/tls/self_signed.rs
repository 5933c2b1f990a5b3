//! A certificate of one's own, for `--auto-tls` and `--peer-auto-tls`: made once, kept with the data.

use std::path::Path;

use super::{TlsError, TlsFiles};

/// The certificate in a folder, made for these hosts if there is none yet.
pub fn keep(folder: &Path, hosts: &[String], years: u32) -> Result<TlsFiles, TlsError> {
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let files = TlsFiles { cert: cert.clone(), key: key.clone(), ..TlsFiles::default() };
    if cert.exists() && key.exists() {
        return Ok(files);
    }
    std::fs::create_dir_all(folder)?;
    let pair = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(hosts.to_vec())?;
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "etcd");
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let (month, day) = (today.month().unsigned_abs(), today.day().unsigned_abs());
    // The 29th of February would not be there in other years.
    params.not_before = rcgen::date_time_ymd(i32::from(today.year()), month, day.min(28));
    params.not_after = rcgen::date_time_ymd(i32::from(today.year()).saturating_add_unsigned(years), month, day.min(28));
    let certificate = params.self_signed(&pair)?;
    std::fs::write(&key, pair.serialize_pem())?;
    std::fs::write(&cert, certificate.pem())?;
    Ok(files)
}

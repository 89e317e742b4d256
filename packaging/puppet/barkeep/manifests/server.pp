# One server, in a file of its own below conf.d.
#
# @param ensure    `absent` takes the file away. What the server has stored stays, and nobody expires it any more.
# @param settings  The keys of `[servers.NAME]`.
define barkeep::server (
  Hash[String[1], Data] $settings = {},
  Enum['present', 'absent'] $ensure = 'present',
) {
  include barkeep

  file { "${barkeep::directory}/conf.d/${name}.toml":
    ensure       => $ensure,
    owner        => $barkeep::owner,
    group        => $barkeep::group,
    mode         => '0644',
    content      => "# Managed by Puppet.\n${barkeep::table("servers.${barkeep::key($name)}", $settings)}",
    require      => File["${barkeep::directory}/barkeep.toml"],
    validate_cmd => "${barkeep::check} conf.d/${name}.toml %",
  }
}

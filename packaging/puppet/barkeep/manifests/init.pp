# Declares to barkeep what must be backed up, where, how often and for how long.
#
# A file is checked in its place, together with all the others that are there, before it is put there: what barkeep refuses
# replaces nothing. The running service takes up by itself what has changed.
#
# @param config   What stands in barkeep.toml: the tables defaults, destinations, policies and service.
# @param servers  The servers, by name: each becomes a file of its own below conf.d.
# @param include  Files that barkeep.toml includes before those below conf.d.
# @param package  The package to install, or empty if it is there already.
# @param unit     The unit that runs: barkeep.service, barkeep-reconcile.timer, or empty for none.
# @param program  Where barkeep is.
# @param directory  Where its configuration is.
# @param owner    Who owns that.
# @param group    The group of it.
class barkeep (
  Hash[Enum['defaults', 'destinations', 'policies', 'service'], Hash] $config = {},
  Hash[String[1], Hash] $servers = {},
  Array[String[1]] $include = ['/usr/share/barkeep/policies/*.toml'],
  String $package = '',
  String $unit = 'barkeep.service',
  String[1] $program = '/usr/bin/barkeep',
  String[1] $directory = '/etc/barkeep',
  String[1] $owner = 'root',
  String[1] $group = 'root',
) {
  $check = "${program} --config ${directory}/barkeep.toml validate --as"

  unless $package.empty {
    package { $package: ensure => installed, before => File[$directory] }
  }

  file { [$directory, "${directory}/conf.d"]:
    ensure => directory,
    owner  => $owner,
    group  => $group,
    mode   => '0755',
  }

  $plain = ['defaults', 'service'].filter |$section| { $section in $config }
  $named = ['destinations', 'policies'].filter |$section| { $section in $config }
  $tables = $plain.map |$section| { barkeep::table($section, $config[$section]) } + $named.map |$section| {
    $config[$section].map |$name, $settings| { barkeep::table("${section}.${barkeep::key($name)}", $settings) }.join('')
  }

  file { "${directory}/barkeep.toml":
    owner        => $owner,
    group        => $group,
    mode         => '0644',
    content      => "# Managed by Puppet.\n\nversion = 1\ninclude = ${barkeep::toml($include + ['conf.d/*.toml'])}\n${tables.join('')}",
    validate_cmd => "${check} barkeep.toml %",
  }

  $servers.each |$name, $settings| {
    barkeep::server { $name: settings => $settings }
  }

  unless $unit.empty {
    service { $unit: ensure => running, enable => true, require => File["${directory}/barkeep.toml"] }
  }
}

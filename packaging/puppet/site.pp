# An example: puppet apply --modulepath packaging/puppet packaging/puppet/site.pp
class { 'barkeep':
  config  => {
    'defaults'     => { 'policy' => 'silver', 'destination' => 'primary', 'time_zone' => 'Europe/Rome' },
    'destinations' => {
      'primary' => {
        'url'           => 's3://acme-pg/prod',
        'max_bandwidth' => '200MiB/s',
        's3'            => { 'region' => 'eu-south-1', 'tags' => { 'team' => 'db' } },
      },
    },
    'policies'     => {
      'silver-late' => {
        'extends'  => 'silver',
        'schedule' => '30 4 * * *',
        'keep'     => [{ 'first_of' => 'month', 'for' => '12 months', 'target' => 'standalone' }],
      },
    },
    'service'      => { 'listen' => '127.0.0.1:9187' },
  },
  servers => {
    'orders'  => {
      'connection' => 'host=/run/postgresql user=barkeep',
      'labels'     => { 'team' => 'payments', 'tier' => '1' },
    },
    'billing' => {
      'policy'               => 'silver-late',
      'connection'           => 'host=/run/postgresql port=5433 user=barkeep',
      'password'             => { 'file' => '/etc/barkeep/secrets/billing' },
      'jobs'                 => 4,
      'immediate_checkpoint' => true,
    },
  },
}

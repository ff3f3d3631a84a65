package DESKTOPGRIDmod;

# What A-REX's information providers ask of a batch system (LRMSInfo.pm), for the desktop grid.
# @SPOOL@ and @SLOTS@ were put in by `python3 -m bridge.arex.backend install`.

use strict;
use JSON::XS qw(decode_json);

require Exporter;
our @ISA       = qw(Exporter);
our @EXPORT_OK = qw(get_lrms_info get_lrms_options_schema);

my $spool = '@SPOOL@';
my $slots = @SLOTS@;

sub get_lrms_options_schema {
    return { 'queues' => { '*' => { 'users' => [''] } }, 'jobs' => [''] };
}

# What the carrier of a job said last; nothing before the grid has taken it.
sub state_of {
    my ($job) = @_;
    return {} unless $job =~ /^[A-Za-z0-9]+$/;
    open( my $file, '<', "$spool/$job.state" ) or return {};
    local $/ = undef;
    return eval { decode_json(<$file>) } || {};
}

sub get_lrms_info {
    my ($options) = @_;
    my ( %jobs, %waiting );
    my ( $running, $queued ) = ( 0, 0 );
    for my $job ( @{ $options->{jobs} } ) {
        my $state = state_of($job);
        my $do    = $state->{do} || '';
        my $status = $do eq 'end' ? 'EXECUTED' : $do ? 'R' : 'Q';
        $running++ if $status eq 'R';
        $queued++  if $status eq 'Q';
        $jobs{$job} = { status => $status, cpus => 1, rank => 0, nodes => [], comment => [] };
    }
    my %queues;
    for my $queue ( keys %{ $options->{queues} } ) {
        my $free = $slots > $running ? $slots - $running : 0;
        my %users = map { $_ => { freecpus => { $free => 0 }, queuelength => $queued } }
            @{ $options->{queues}{$queue}{users} };
        $queues{$queue} = {
            status      => $free,
            maxrunning  => $slots,
            maxuserrun  => $slots,
            maxqueuable => '',
            running     => $running,
            queued      => $queued,
            totalcpus   => $slots,
            users       => \%users,
        };
    }
    return {
        cluster => {
            lrms_type       => 'desktopgrid',
            lrms_version    => '1',
            totalcpus       => $slots,
            usedcpus        => $running,
            queuedcpus      => $queued,
            queuedjobs      => $queued,
            runningjobs     => $running,
            cpudistribution => "1cpu:$slots",
        },
        queues => \%queues,
        jobs   => \%jobs,
        nodes  => {},
    };
}

1;

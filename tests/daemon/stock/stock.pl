# SPDX-License-Identifier: MIT
# Perl's Redis against the daemon, as stock.py expects it: a line for each check.
use strict;
use warnings;
use Redis;

my $path = shift;

sub client { return Redis->new(sock => $path, encoding => undef, read_timeout => 30); }

sub text {
    my ($v) = @_;
    return 'undef' if !defined $v;
    return '[' . join(' ', map { text($_) } @$v) . ']' if ref $v eq 'ARRAY';
    return "$v";
}

sub same {
    my ($name, $got, $wanted) = @_;
    ($got, $wanted) = (text($got), text($wanted));
    print $got eq $wanted ? "ok $name\n" : "not ok $name: got $got, wanted $wanted\n";
}

my $r = client();
my $all = join '', map { chr } 0 .. 255;
same('ping', $r->ping, 'PONG');
same('strings', [$r->set('pl:s', $all), $r->get('pl:s') eq $all, $r->get('pl:none')], ['OK', 1, undef]);
same('set with options', [$r->set('pl:t', 'x', 'NX', 'EX', 60), $r->set('pl:t', 'y', 'NX'), $r->ttl('pl:t')],
     ['OK', undef, 60]);
same('counters', [$r->incr('pl:n'), $r->incrby('pl:n', 9), $r->decr('pl:n'), $r->incrbyfloat('pl:f', '0.5')],
     [1, 10, 9, '0.5']);
same('several', [$r->mset('pl:a', 1, 'pl:b', 2), [$r->mget('pl:a', 'pl:none', 'pl:b')]], ['OK', [1, undef, 2]]);
same('hashes', [$r->hset('pl:h', 'f', 'v'), $r->hmset('pl:h', 'g', 'w', 'n', 1), $r->hget('pl:h', 'f'),
     $r->hincrby('pl:h', 'n', 4), $r->hlen('pl:h'), $r->hexists('pl:h', 'x'), $r->hdel('pl:h', 'f')],
     [1, 'OK', 'v', 5, 3, 0, 1]);
my %h = $r->hgetall('pl:h');
same('a whole hash', [map { "$_=$h{$_}" } sort keys %h], ['g=w', 'n=5']);
my ($cursor, $found) = $r->hscan('pl:h', 0, 'MATCH', 'g*');
same('a walk', [$cursor, $found], [0, ['g', 'w']]);
same('lists', [$r->rpush('pl:l', 'a', 'b', 'c'), [$r->lrange('pl:l', 0, -1)], $r->lpop('pl:l'), $r->llen('pl:l'),
     $r->lindex('pl:l', -1), $r->rpoplpush('pl:l', 'pl:m')], [3, ['a', 'b', 'c'], 'a', 2, 'c', 'c']);
same('types', [$r->type('pl:l'), $r->type('pl:h'), $r->type('pl:s')], ['list', 'hash', 'string']);
same('a blocking pop that ends', scalar $r->blpop('pl:none', '0.1'), undef);
$r->__std_cmd('task.submit', 'use', 'append', '', 'ARG', 'pl:q', 'ARG', 'job', 'ARG', 1);
same('a blocking pop', [$r->blpop('pl:none', 'pl:q', 20)], ['pl:q', 'job:0']);
$r->multi;
$r->set('pl:x', 1);
$r->incr('pl:x');
$r->hgetall('pl:none');
same('a transaction', [$r->exec], ['OK', 2, []]);
$r->watch('pl:x');
client()->set('pl:x', 7);
$r->multi;
$r->set('pl:x', 8);
same('a watched key that changes', scalar $r->exec, undef);
my $sum = 0;
$r->incr('pl:p', sub { $sum += $_[0] }) for 1 .. 1000;
$r->wait_all_responses;
same('a pipeline', $sum, 500500);
same('an error', eval { $r->lpush('pl:s', 'x'); 1 } ? 'none' : $@ =~ /WRONGTYPE/ ? 'WRONGTYPE' : $@, 'WRONGTYPE');
same('a task', $r->__std_cmd('task.call', 'demo', 'echo', $all) eq $all, 1);
my $id = $r->__std_cmd('task.submit', 'demo', 'echo', 'hello');
my @heard;
my $listener = client();
$listener->subscribe("task:$id", 'pl:news', sub { push @heard, "$_[1] $_[0]" });
$r->publish('pl:news', 'hi');
while (@heard < 2 && $listener->wait_for_messages(20)) { }
same('pub/sub', [sort @heard], ['pl:news hi', "task:$id $id done \nhello"]);
same('the end', $r->del($r->keys('pl:*')) > 5, 1);

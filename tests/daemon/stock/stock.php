<?php
// SPDX-License-Identifier: MIT
// php-redis (phpredis, an extension in C) against the daemon, as stock.py expects it: a line for each check.

$path = $argv[1];

function client() {
    global $path;
    $r = new Redis();
    $r->connect($path);
    $r->setOption(Redis::OPT_READ_TIMEOUT, 30);
    return $r;
}

function same($name, $got, $wanted) {
    if ($got === $wanted) {
        echo "ok $name\n";
    } else {
        echo "not ok $name: got " . json_encode($got) . ", wanted " . json_encode($wanted) . "\n";
    }
}

$r = client();
$all = implode('', array_map('chr', range(0, 255)));
same('ping', $r->ping(), true);
same('strings', [$r->set('php:s', $all), $r->get('php:s') === $all, $r->get('php:none')], [true, true, false]);
same('set with options', [$r->set('php:t', 'x', ['nx', 'ex' => 60]), $r->set('php:t', 'y', ['nx']), $r->ttl('php:t')],
     [true, false, 60]);
same('counters', [$r->incr('php:n'), $r->incrBy('php:n', 9), $r->decr('php:n'), $r->incrByFloat('php:f', 0.5)],
     [1, 10, 9, 0.5]);
same('several', [$r->mset(['php:a' => '1', 'php:b' => '2']), $r->mget(['php:a', 'php:none', 'php:b'])],
     [true, ['1', false, '2']]);
same('hashes', [$r->hSet('php:h', 'f', 'v'), $r->hMSet('php:h', ['g' => 'w', 'n' => 1]), $r->hGet('php:h', 'f'),
     $r->hIncrBy('php:h', 'n', 4), $r->hLen('php:h'), $r->hExists('php:h', 'x'), $r->hDel('php:h', 'f')],
     [1, true, 'v', 5, 3, false, 1]);
$h = $r->hGetAll('php:h');
ksort($h);
same('a whole hash', $h, ['g' => 'w', 'n' => '5']);
$it = null;
same('a walk', $r->hScan('php:h', $it, 'g*'), ['g' => 'w']);
same('lists', [$r->rPush('php:l', 'a', 'b', 'c'), $r->lRange('php:l', 0, -1), $r->lPop('php:l'), $r->lLen('php:l'),
     $r->lIndex('php:l', -1), $r->rpoplpush('php:l', 'php:m')], [3, ['a', 'b', 'c'], 'a', 2, 'c', 'c']);
same('types', [$r->type('php:l') === Redis::REDIS_LIST, $r->type('php:h') === Redis::REDIS_HASH], [true, true]);
same('a blocking pop that ends', $r->blPop(['php:none'], 1), []);
$r->rawCommand('TASK.SUBMIT', 'use', 'append', '', 'ARG', 'php:q', 'ARG', 'job', 'ARG', '1');
same('a blocking pop', $r->blPop(['php:none', 'php:q'], 20), ['php:q', 'job:0']);
same('a transaction', $r->multi()->set('php:x', '1')->incr('php:x')->hGetAll('php:none')->exec(), [true, 2, []]);
$r->watch('php:x');
client()->set('php:x', '7');
same('a watched key that changes', $r->multi()->set('php:x', '8')->exec(), false);
$pipe = $r->multi(Redis::PIPELINE);
for ($i = 0; $i < 1000; $i++) {
    $pipe->incr('php:p');
}
same('a pipeline', array_sum($pipe->exec()), 500500);
same('an error', [$r->lPush('php:s', 'x'), strpos($r->getLastError(), 'WRONGTYPE')], [false, 0]);
same('a task', $r->rawCommand('TASK.CALL', 'demo', 'echo', $all) === $all, true);
$id = $r->rawCommand('TASK.SUBMIT', 'demo', 'echo', 'hello');
$heard = null;
$listener = client();
try {
    $listener->subscribe(["task:$id"], function ($l, $channel, $message) use (&$heard) {
        $heard = [$channel, $message];
        throw new Exception('enough');
    });
} catch (Exception $e) {
    $listener->close();
}
same('pub/sub', $heard, ["task:$id", "$id done \nhello"]);
same('the end', $r->del($r->keys('php:*')) > 5, true);

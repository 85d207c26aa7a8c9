# SPDX-License-Identifier: MIT
# bash completion for hearth(1). The commands and options below are held against `hearth help --names` and
# `hearth help --options COMMAND` by tests/checks/tables.py. Pools and handlers are asked of the daemon, if one answers.

_hearth_options() {
    case $1 in
    call) echo --in --timeout --stream --soft --memory --durable --priority --delay --expire --deadline --retry --on --backoff --limit --after --group --owned --unique --last ;;
    log) echo --follow ;;
    submit) echo --in --timeout --soft --memory --durable --priority --delay --expire --deadline --retry --on --backoff --limit --after --group --owned --unique --last ;;
    wait) echo --any --timeout ;;
    map) echo --files --null --ordered --out --plain --split --chunk --jobs --arg --timeout --summary --quiet --soft --memory --durable --priority --delay --expire --deadline --retry --on --backoff --limit --after --group --owned ;;
    tasks) echo --pool --state --count ;;
    workers) echo --pool ;;
    top) echo --once --delay ;;
    events) echo --follow --type --count --from ;;
    schedule) echo --in --timeout --replace --misfire --overlap --soft --memory --durable --priority --delay --expire --deadline --retry --on --backoff ;;
    lock) echo --timeout --nonblock --conflict-exit-code --list ;;
    sem) echo --timeout --nonblock --conflict-exit-code --max ;;
    queue) echo --timeout --nonblock --in --max --lease ;;
    pipe) echo --timeout --nonblock --in --simplex ;;
    event | barrier) echo --timeout --nonblock ;;
    ping) echo --count ;;
    load) echo --replace ;;
    proc) echo --name --handler --in --dir --env --restart --backoff --stop --timeout --follow ;;
    list) echo --left --right --wait ;;
    set) echo --ttl --new --replace --keep ;;
    keys) echo --long ;;
    esac
}

_hearth_verbs() {
    case $1 in
    dict) echo get set del incr has items keys values len clear export import ;;
    array) echo create get set add cas fill range info ;;
    queue) echo create put get size info done join close ;;
    pipe) echo create send recv ;;
    event) echo set clear test wait ;;
    barrier) echo create wait reset abort info ;;
    list) echo push pop get set range len index insert rem trim move clear export import ;;
    esac
}

# Names of shared objects, those of a type if one is given.
_hearth_names() {
    timeout 1 hearth "${socket[@]}" keys --long 2>/dev/null | head -n 1000 |
        awk -v type="$1" 'type == "" || $1 == type { print $NF }'
}

# Names of pools; with "handlers" as first word POOL.HANDLER of each.
_hearth_pools() {
    local pool
    for pool in $(timeout 1 hearth "${socket[@]}" pools 2>/dev/null | awk 'NR > 1 { print $1 }'); do
        if [[ $1 == handlers ]]; then
            timeout 1 hearth "${socket[@]}" pools "$pool" 2>/dev/null |
                awk -v pool="$pool" '$1 == "handlers" { for (i = 2; i <= NF; i++) print pool "." $i }'
        else
            echo "$pool"
        fi
    done
}

_hearth_ids() {
    timeout 1 hearth "${socket[@]}" tasks 2>/dev/null | awk 'NR > 1 { print $1 }'
}

_hearth() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command='' operands=0 i word
    local -a socket=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case $word in
        -s | --socket)
            socket=(-s "${COMP_WORDS[i + 1]}")
            ((i++))
            ;;
        --in | --timeout | --soft | --memory | --priority | --delay | --expire | --deadline | --retry | --on | --backoff | --limit | --after | --group | --unique | --out | --chunk | --jobs | --arg | --pool | --state | --count | --wait | --ttl | --type | --from | --misfire | --name | --dir | --env | --restart | --stop) ((i++)) ;;
        -*) ;;
        *)
            if [[ -z $command ]]; then
                command=$word
            else
                ((operands++))
            fi
            ;;
        esac
    done
    case $prev in
    -s | --socket | --in | --out) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
    --state) mapfile -t COMPREPLY < <(compgen -W 'queued running done failed lost timeout cancelled' -- "$cur"); return ;;
    --type) mapfile -t COMPREPLY < <(compgen -W 'task worker pool schedule proc' -- "$cur"); return ;;
    --restart) mapfile -t COMPREPLY < <(compgen -W 'never on-failure always' -- "$cur"); return ;;
    --misfire) mapfile -t COMPREPLY < <(compgen -W 'skip once all' -- "$cur"); return ;;
    --pool) mapfile -t COMPREPLY < <(compgen -W "$(_hearth_pools)" -- "$cur"); return ;;
    esac
    if [[ -z $command ]]; then
        mapfile -t COMPREPLY < <(compgen -W 'call submit wait result log cancel map tasks pools workers top events metrics schedule dead group priority ping info dict list get set incr del expire keys
            lock sem queue pipe event barrier manager array block proc pool config reload fsck dump load raw help
            --socket --json --help --version' -- "$cur")
    elif [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_hearth_options "$command") --socket --json --help" -- "$cur")
    else
        case $command in
        call | submit | map)
            if ((operands == 0)); then
                mapfile -t COMPREPLY < <(compgen -W "$(_hearth_pools handlers)" -- "$cur")
            else
                mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            fi
            ;;
        wait | result | log | cancel | tasks | priority) mapfile -t COMPREPLY < <(compgen -W "$(_hearth_ids)" -- "$cur") ;;
        array)
            case $operands in
            0) mapfile -t COMPREPLY < <(compgen -W "$(_hearth_names array)" -- "$cur") ;;
            1) mapfile -t COMPREPLY < <(compgen -W "$(_hearth_verbs array)" -- "$cur") ;;
            esac
            ;;
        dict | list)
            case $operands in
            0) mapfile -t COMPREPLY < <(compgen -W "$(_hearth_names "${command/dict/hash}")" -- "$cur") ;;
            1) mapfile -t COMPREPLY < <(compgen -W "$(_hearth_verbs "$command")" -- "$cur") ;;
            *) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
            esac
            ;;
        queue | pipe | event | barrier)
            case $operands in
            0) mapfile -t COMPREPLY < <(compgen -W "$(_hearth_names "$command")" -- "$cur") ;;
            1) mapfile -t COMPREPLY < <(compgen -W "$(_hearth_verbs "$command")" -- "$cur") ;;
            *) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
            esac
            ;;
        lock | sem)
            case $operands in
            0) mapfile -t COMPREPLY < <(compgen -W "$(_hearth_names "${command/sem/semaphore}")" -- "$cur") ;;
            *) mapfile -t COMPREPLY < <(compgen -c -- "$cur") ;;
            esac
            ;;
        dump | load) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
        get | set | incr) mapfile -t COMPREPLY < <(compgen -W "$(_hearth_names string)" -- "$cur") ;;
        del | expire) mapfile -t COMPREPLY < <(compgen -W "$(_hearth_names)" -- "$cur") ;;
        schedule) ((operands == 0)) && mapfile -t COMPREPLY < <(compgen -W 'add list show run pause resume del' -- "$cur") ;;
        dead)
            case $operands in
            0) mapfile -t COMPREPLY < <(compgen -W 'list info requeue purge' -- "$cur") ;;
            *) mapfile -t COMPREPLY < <(compgen -W "$(_hearth_ids)" -- "$cur") ;;
            esac
            ;;
        group) ((operands == 0)) && mapfile -t COMPREPLY < <(compgen -W 'wait info close cancel' -- "$cur") ;;
        block) ((operands == 0)) && mapfile -t COMPREPLY < <(compgen -W 'create list show read write rm' -- "$cur") ;;
        proc) ((operands == 0)) && mapfile -t COMPREPLY < <(compgen -W 'start run wait stop kill signal ps show log rm' -- "$cur") ;;
        manager) ((operands == 0)) && mapfile -t COMPREPLY < <(compgen -W 'run list' -- "$cur") ;;
        pool)
            case $operands in
            0) mapfile -t COMPREPLY < <(compgen -W 'resize recycle broadcast pause resume drain' -- "$cur") ;;
            *) mapfile -t COMPREPLY < <(compgen -W "$(_hearth_pools)" -- "$cur") ;;
            esac
            ;;
        config) ((operands == 0)) && mapfile -t COMPREPLY < <(compgen -W 'get set rewrite resetstat' -- "$cur") ;;
        pools) mapfile -t COMPREPLY < <(compgen -W "$(_hearth_pools)" -- "$cur") ;;
        help) mapfile -t COMPREPLY < <(compgen -W 'call submit wait result cancel map tasks pools workers top events metrics schedule dead group priority ping info dict list get set
            incr del expire keys lock sem queue pipe event barrier manager array block proc pool config reload fsck raw exit' -- "$cur") ;;
        esac
    fi
}

complete -o filenames -F _hearth hearth

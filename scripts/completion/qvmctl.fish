# Completion of qvmctl's command lines in fish; `qvmctl complete` tells what there is.

function __qvmctl_complete
    set -l typed (commandline -opc)
    set -l current (commandline -ct)
    for line in (qvmctl complete -- $typed[2..] "$current" 2>/dev/null)
        if test "$line" = \tfiles
            __fish_complete_path (string replace -r '^--[a-z-]+=' '' -- "$current")
        else
            echo $line
        end
    end
end

complete -c qvmctl -f -a '(__qvmctl_complete)'

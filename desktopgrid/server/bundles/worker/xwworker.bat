@echo off
rem Run the worker by hand; close the window to stop it. It runs in the Linux of this machine (WSL).
wsl.exe --status >nul 2>&1
if errorlevel 1 (
    echo xwworker: this machine has no WSL; run "wsl --install" once, as administrator
    exit /b 1
)
wsl.exe --cd "%~dp0.." -e sh -c "umask 077; mkdir -p ~/.glidebridge && cp worker.identity ~/.glidebridge/worker.identity && exec python3 xwworker.pyz console --identity ~/.glidebridge/worker.identity"

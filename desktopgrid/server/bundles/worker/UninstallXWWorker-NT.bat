@echo off
rem Stop the worker's service and remove it; the package stays where it is. Needs an administrator.
net session >nul 2>&1
if errorlevel 1 (
    echo UninstallXWWorker-NT: not enough privileges; run it as administrator
    exit /b 1
)
"%~dp0XWWorker-NT.exe" stop
"%~dp0XWWorker-NT.exe" uninstall

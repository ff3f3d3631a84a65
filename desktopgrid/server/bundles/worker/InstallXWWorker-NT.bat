@echo off
rem Install the worker as a service that starts with the machine. Needs an administrator, and WinSW
rem (https://github.com/winsw/winsw) beside this file as XWWorker-NT.exe: it reads XWWorker-NT.xml.
net session >nul 2>&1
if errorlevel 1 (
    echo InstallXWWorker-NT: not enough privileges; run it as administrator
    exit /b 1
)
if not exist "%~dp0XWWorker-NT.exe" (
    echo InstallXWWorker-NT: XWWorker-NT.exe is missing; it is WinSW, under this name
    exit /b 1
)
"%~dp0XWWorker-NT.exe" install || exit /b 1
"%~dp0XWWorker-NT.exe" start || exit /b 1
"%~dp0XWWorker-NT.exe" status

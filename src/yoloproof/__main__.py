from yoloproof.cli import main

main()
